//! Sandboxes from Linux namespaces on this machine
