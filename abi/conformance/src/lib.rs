//! The suites that every TEMPOS plugin must pass, run on the loaded .so.
