//! TEMPOS plugin
