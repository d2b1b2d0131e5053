//! The D-Bus door of a TEMPOS node, and temposctl.
