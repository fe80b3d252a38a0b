//! One module for each family of commands.

pub(crate) mod agent;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod give_back;
pub(crate) mod ignored;
pub(crate) mod inbox;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod policy;
pub(crate) mod race;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod restore;
pub(crate) mod sandbox;
pub(crate) mod show;
pub(crate) mod snapshots;
pub(crate) mod start;
pub(crate) mod take_up;
pub(crate) mod transfer;
pub(crate) mod verify;
pub(crate) mod why;
