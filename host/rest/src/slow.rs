//! A connection within bounds: a peer must read what it is sent, and what is refused before it is a request is told
//! why, as everything else is.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::limits::UNREAD;
use crate::problem::raw;

/// A stream whose writes may not wait for longer than `UNREAD`.
#[derive(Debug)]
pub struct Bounded<S> {
    inner: S,
    limit: Pin<Box<Sleep>>,
    waits: bool,
    heard: Arc<AtomicBool>,
    /// What is sent in the place of an answer of the protocol's own: how much of it, and how long that was.
    instead: Option<(Vec<u8>, usize, usize)>,
}

impl<S> Bounded<S> {
    /// Puts the bounds around a stream. `heard` is set whenever something comes.
    pub fn new(inner: S, heard: Arc<AtomicBool>) -> Self {
        Bounded { inner, limit: Box::pin(sleep(UNREAD)), waits: false, heard, instead: None }
    }

    /// Lets through what a write came to, and the end of patience where it came to nothing.
    fn judge<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waits = false;
            return outcome;
        }
        if !self.waits {
            self.waits = true;
            self.limit.as_mut().reset(Instant::now() + UNREAD);
        }
        match self.limit.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the other end does not read its answer",
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut this.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.heard.store(true, Ordering::Relaxed);
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.instead.is_none()
            && let Some(problem) = in_place_of(bytes)
        {
            this.instead = Some((problem, 0, bytes.len()));
        }
        let outcome = loop {
            let Some((problem, sent, len)) = &mut this.instead else {
                break Pin::new(&mut this.inner).poll_write(context, bytes);
            };
            if *sent == problem.len() {
                let len = *len;
                this.instead = None;
                break Poll::Ready(Ok(len));
            }
            match Pin::new(&mut this.inner).poll_write(context, &problem[*sent..]) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(more)) => *sent += more,
                other => break other,
            }
        };
        this.judge(context, outcome)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_flush(context);
        this.judge(context, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_shutdown(context);
        this.judge(context, outcome)
    }
}

/// The problem that is sent where hyper refuses bytes that are no request: it writes a bare status of its own, all in
/// one piece. No answer of the door looks like it: all have fields, and no body of theirs begins so.
fn in_place_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let status = bytes.strip_prefix(b"HTTP/1.1 4").or(bytes.strip_prefix(b"HTTP/1.0 4"))?;
    let text = std::str::from_utf8(bytes).ok()?.to_ascii_lowercase();
    if !text.ends_with("\r\n\r\n") || text.contains("x-content-type-options") {
        return None;
    }
    Some(match status {
        [b'3', b'1', ..] => {
            raw(431, "Request Header Fields Too Large", "TooLarge", "the head of the request is too large")
        }
        [b'1', b'4', ..] => raw(414, "URI Too Long", "TooLarge", "the path is too long"),
        _ => raw(400, "Bad Request", "InvalidArguments", "this is no request of HTTP/1.1"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn bounded<S>(stream: S) -> Bounded<S> {
        Bounded::new(stream, Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_let_go_and_one_that_reads_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut stream = bounded(ours);
        for _ in 0..4 {
            let (written, read) = tokio::join!(stream.write_all(&[0; 32]), async {
                sleep(UNREAD / 2).await;
                let mut some = [0; 32];
                theirs.read_exact(&mut some).await
            });
            assert!(written.is_ok() && read.is_ok());
        }
        let error = stream.write_all(&[0; 32]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_bare_status_becomes_a_problem_and_everything_else_stays() {
        for (sent, wanted) in [
            ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", "\"status\":400"),
            ("HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n", "\"status\":431"),
            (
                "HTTP/1.1 404 Not Found\r\nx-content-type-options: nosniff\r\n\r\n",
                "HTTP/1.1 404 Not Found\r\nx-",
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK"),
        ] {
            let (ours, mut theirs) = tokio::io::duplex(7);
            let mut came = String::new();
            let (written, read) = tokio::join!(
                async move {
                    let mut stream = bounded(ours);
                    stream.write_all(sent.as_bytes()).await
                },
                theirs.read_to_string(&mut came)
            );
            assert!(written.is_ok() && read.is_ok());
            assert!(came.contains(wanted), "{came}");
        }
    }
}
