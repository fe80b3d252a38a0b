//! Trees of files over blobs: commit, verify, restore, diff
