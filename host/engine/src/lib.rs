//! The TEMPOS node: lanes, plugins, wiring.
