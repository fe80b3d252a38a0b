//! The program that runs inside a sandbox, and its protocol
