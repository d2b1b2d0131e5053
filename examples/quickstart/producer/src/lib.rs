//! Reads this machine's own counters from /proc and sends them as events.
