//! Compiles functions, or finds them compiled in the cache.

use std::ffi::c_void;
use std::ops::Range;

use tempos_abi::export;
use tempos_abi::host::LogLevel;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use crate::cache::Cache;
#[cfg(feature = "compiler")]
use crate::cache::Key;
use crate::config::Config;
use crate::fault::cause;
use crate::file::Form;

/// Functions whose code is larger come page by page as they are used.
const RESIDENT_BYTES_MAX: usize = 64 << 20;

/// A compiled function.
pub enum Compiled {
    /// A core module.
    Module(Module),
    /// A component.
    Component(Component),
}

impl Compiled {
    /// Compiles a function, unless the cache has it.
    ///
    /// # Errors
    /// Half a sentence: what is wrong with it.
    pub fn make(engine: &Engine, form: Form, bytes: &[u8], config: &Config) -> Result<Compiled, String> {
        let cache = open_cache(config);
        let compiled = match cache.as_ref().and_then(|cache| find(cache, engine, form, bytes)) {
            Some(compiled) => compiled,
            None => fresh(cache.as_ref(), engine, form, bytes)?,
        };
        compiled.bring_in();
        Ok(compiled)
    }

    /// Its first event waits for no page of code. What the system refuses is no error.
    fn bring_in(&self) {
        let Range { start, end } = match self {
            Compiled::Module(module) => module.image_range(),
            Compiled::Component(component) => component.image_range(),
        };
        let (start, bytes) = (start as usize & !4095, end as usize - (start as usize & !4095));
        if bytes <= RESIDENT_BYTES_MAX {
            let start = start as *mut c_void;
            // SAFETY: faulting pages in and locking them changes nothing in them; the range is that of code
            // that is loaded, and is unlocked when it is unmapped.
            unsafe {
                libc::madvise(start, bytes, libc::MADV_POPULATE_READ);
                libc::mlock(start, bytes);
            }
        }
    }
}

fn open_cache(config: &Config) -> Option<Cache> {
    let folder = config.cache_folder()?;
    match Cache::open(&folder) {
        Ok(cache) => Some(cache),
        Err(error) => {
            let sentence = format!("{} is not used for compiled functions: {error}", folder.display());
            export::log(LogLevel::WARNING, "wasm", &sentence);
            None
        }
    }
}

#[cfg(feature = "compiler")]
fn key(engine: &Engine, form: Form, bytes: &[u8]) -> Key {
    Key::of(&(engine.precompile_compatibility_hash(), form as u8), bytes)
}

/// What the cache has of a function.
#[cfg(feature = "compiler")]
fn find(cache: &Cache, engine: &Engine, form: Form, bytes: &[u8]) -> Option<Compiled> {
    let key = key(engine, form, bytes);
    let found = load(engine, form, &cache.load(&key)?).ok();
    if found.is_none() {
        cache.forget(&key);
    }
    found
}

/// What the cache has of a function: without the compiler nobody knows its key, and the engine refuses what
/// was compiled for another one.
#[cfg(not(feature = "compiler"))]
fn find(cache: &Cache, engine: &Engine, form: Form, bytes: &[u8]) -> Option<Compiled> {
    cache.keys_of(bytes).iter().find_map(|key| load(engine, form, &cache.load(key)?).ok())
}

/// Compiles a function and keeps it.
#[cfg(feature = "compiler")]
fn fresh(cache: Option<&Cache>, engine: &Engine, form: Form, bytes: &[u8]) -> Result<Compiled, String> {
    let code = compile(engine, form, bytes)?;
    let compiled = load(engine, form, &code)?;
    if let Some(cache) = cache
        && let Err(error) = cache.store(&key(engine, form, bytes), &code)
    {
        // The next start compiles it again.
        export::log(LogLevel::WARNING, "wasm", &format!("what was compiled cannot be kept: {error}"));
    }
    Ok(compiled)
}

#[cfg(not(feature = "compiler"))]
fn fresh(_cache: Option<&Cache>, _engine: &Engine, _form: Form, _bytes: &[u8]) -> Result<Compiled, String> {
    Err(String::from(
        "this node cannot compile, and it is not in the cache; compile it on a node of the same version and copy its cache",
    ))
}

/// Loads what was compiled, by this process or by one before it.
fn load(engine: &Engine, form: Form, code: &[u8]) -> Result<Compiled, String> {
    // SAFETY: these bytes were just made by this engine, or come from the cache, which takes nothing that
    // anybody but the node's user has written (see `cache`).
    let loaded = unsafe {
        match form {
            Form::Module => Module::deserialize(engine, code).map(Compiled::Module),
            Form::Component => Component::deserialize(engine, code).map(Compiled::Component),
        }
    };
    loaded.map_err(|error| cause(&error))
}

#[cfg(feature = "compiler")]
fn compile(engine: &Engine, form: Form, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let compiled = match form {
        Form::Module => engine.precompile_module(bytes),
        Form::Component => engine.precompile_component(bytes),
    };
    compiled.map_err(|error| {
        let what = match form {
            Form::Module => "module",
            Form::Component => "component",
        };
        format!("it is no valid WebAssembly {what}: {}", cause(&error))
    })
}
