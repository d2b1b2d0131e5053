//! What a function may see through WASI: nothing but clocks, random numbers and its own output, unless it is
//! listed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tempos_abi::host::LogLevel;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, async_trait};

use crate::config::Dir;
use crate::journal::Journal;

/// What a guest may write at once.
const SAID_BYTES_MAX: usize = 4096;

/// What is granted.
#[derive(Clone, Debug, Default)]
pub struct Sandbox {
    /// Variables.
    pub env: Vec<(String, String)>,
    /// Folders.
    pub dirs: Vec<Dir>,
}

impl Sandbox {
    /// A view of it for one instance. A folder that is gone by now is left out: the function finds it missing.
    pub fn open(&self, journal: &Arc<Journal>) -> WasiP1Ctx {
        let mut builder = WasiCtxBuilder::new();
        builder.envs(&self.env);
        builder.stdout(Said { journal: Arc::clone(journal), level: LogLevel::INFO });
        builder.stderr(Said { journal: Arc::clone(journal), level: LogLevel::WARNING });
        builder.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        for dir in &self.dirs {
            let perms = if dir.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            let _ = builder.preopened_dir(&dir.host, &dir.guest, perms);
        }
        builder.build_p1()
    }
}

/// Standard output and error: lines for the node's log.
#[derive(Clone)]
struct Said {
    journal: Arc<Journal>,
    level: LogLevel,
}

impl IsTerminal for Said {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Said {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

/// Always ready: what the journal has no room for is counted there.
#[async_trait]
impl Pollable for Said {
    async fn ready(&mut self) {}
}

impl OutputStream for Said {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.journal.write_lines(self.level, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(SAID_BYTES_MAX)
    }
}

impl AsyncWrite for Said {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.journal.write_lines(self.level, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
