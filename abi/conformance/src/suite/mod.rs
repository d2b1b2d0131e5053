//! One suite per kind.

pub mod adapter;
pub mod descriptor;
pub mod invoker;
pub mod queue;
mod road;

use tempos_abi::PluginError;

/// Whether a refusal is what a user should read.
fn is_one_sentence(error: &PluginError) -> Result<(), String> {
    if error.code == PluginError::PANICKED {
        Err(format!("it panicked: {}", error.message))
    } else if error.message.trim().is_empty() || error.message.contains('\n') {
        Err(format!("its refusal is not one sentence: {:?}", error.message.as_str()))
    } else {
        Ok(())
    }
}
