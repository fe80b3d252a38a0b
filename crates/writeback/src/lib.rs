//! Gives changes of a run back to the folder it started from
