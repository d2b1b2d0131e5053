//! The words that a TEMPOS plugin and its host share.
