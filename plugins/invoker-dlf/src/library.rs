//! An open shared library and the symbol in it.

use std::ffi::CStr;
use std::path::Path;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use tempos_function::raw::RawHandle;

use crate::resident::bring_in;

/// An open library; it is closed when it is dropped.
pub struct Opened {
    library: Library,
    handle: RawHandle,
}

impl Opened {
    /// Opens a library (its constructors run) and finds the symbol.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(path: &Path, symbol: &CStr) -> Result<Self, String> {
        // SAFETY: the operator wired this file as a function; running its constructors is what was asked for.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|error| format!("the dynamic loader refuses it: {}", last_part(&error.to_string())))?;
        // SAFETY: `tempos_function.h` says that the symbol is a function of this type.
        let handle = unsafe { library.get::<RawHandle>(symbol.to_bytes_with_nul()) }.map_err(|_| {
            format!("it exports no symbol {symbol:?}; declare it as in tempos_function.h, or set `symbol`")
        })?;
        let handle = *handle;
        Ok(Opened { library, handle })
    }

    /// What is called.
    pub fn handle(&self) -> RawHandle {
        self.handle
    }

    /// Leaves it mapped for the life of the process: the function may have threads and thread-locals.
    pub fn keep(self) -> RawHandle {
        bring_in(self.handle as *const std::ffi::c_void);
        std::mem::forget(self.library);
        self.handle
    }
}

/// The loader's messages begin with the path of the copy, which means nothing to a user.
fn last_part(message: &str) -> &str {
    message.rsplit_once(".so: ").map_or(message, |(_, rest)| rest)
}
