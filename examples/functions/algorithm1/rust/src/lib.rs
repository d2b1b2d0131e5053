//! Algorithm 1 of the TEMPOS paper (Garbugli et al., IEEE Access 10, 2022).
//!
//! The event is `{"message": "...", "pattern": "..."}`, the answer `{"occurrences":N,"result":X}`. The same
//! source is a shared library for the method `dlf` and a WebAssembly module for the method `wasm`: only the
//! door differs.

mod algorithm;
#[cfg(not(target_family = "wasm"))]
mod dlf;
#[cfg(target_family = "wasm")]
mod wasm;
