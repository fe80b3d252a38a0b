mod agent;
mod aws;
