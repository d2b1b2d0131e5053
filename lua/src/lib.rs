//! Wiring scripts: Lua in, commands out.
