//! The agent loop: agents, machine, driver and tools
