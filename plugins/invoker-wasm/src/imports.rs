//! What a core module may import from `tempos`: see the plugin's README.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tempos_abi::attributes::AttributeValue;
use wasmtime::{Caller, Linker, Memory, bail};

use crate::guest::Guest;
use crate::journal::{LINE_BYTES_MAX, severity};

/// The name that they are imported from.
pub const MODULE: &str = "tempos";
/// Their names and types, for sentences.
pub const SIGNATURES: &[(&str, &str)] = &[
    ("write", "(i32, i32) -> i32"),
    ("explain", "(i32, i32)"),
    ("log", "(i32, i32, i32)"),
    ("attribute", "(i32, i32, i32, i32) -> i32"),
    ("attribute_number", "(i32, i32, i32) -> i32"),
    ("topic", "(i32, i32) -> i32"),
    ("event", "(i32) -> i64"),
];

const SENTENCE_BYTES_MAX: usize = 256;
const KEY_BYTES_MAX: usize = 255;

/// Defines them all.
///
/// # Errors
/// One is defined twice.
pub fn define(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "write", |mut caller: Caller<'_, Guest>, at: u32, bytes: u32| {
        let memory = memory(&mut caller)?;
        let (data, guest) = memory.data_and_store_mut(&mut caller);
        let bytes = part(data, at, bytes, "write")?;
        let Some(output) = guest.output() else { return Ok(-1) };
        wasmtime::Result::Ok(if output.write(bytes) { 0 } else { -1 })
    })?;
    linker.func_wrap(MODULE, "explain", |mut caller: Caller<'_, Guest>, at: u32, bytes: u32| {
        let memory = memory(&mut caller)?;
        let (data, guest) = memory.data_and_store_mut(&mut caller);
        let text = text(part(data, at, bytes.min(SENTENCE_BYTES_MAX as u32), "explain")?);
        if let Some(output) = guest.output() {
            output.explain(text);
        }
        wasmtime::Result::Ok(())
    })?;
    linker.func_wrap(MODULE, "log", |mut caller: Caller<'_, Guest>, level: i32, at: u32, bytes: u32| {
        let memory = memory(&mut caller)?;
        let (data, guest) = memory.data_and_store_mut(&mut caller);
        let line = part(data, at, bytes.min(LINE_BYTES_MAX as u32), "log")?;
        guest.shared.journal.write(severity(level), line);
        wasmtime::Result::Ok(())
    })?;
    linker.func_wrap(
        MODULE,
        "attribute",
        |mut caller: Caller<'_, Guest>, key: u32, key_bytes: u32, into: u32, room: u32| {
            let memory = memory(&mut caller)?;
            let (data, guest) = memory.data_and_store_mut(&mut caller);
            let mut shown = Shown::default();
            let Some(value) = find(guest, part(data, key, key_bytes, "attribute")?) else { return Ok(-1) };
            let value = shown.show(value);
            let to = part_mut(data, into, room, "attribute")?;
            wasmtime::Result::Ok(copy(value, to))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "attribute_number",
        |mut caller: Caller<'_, Guest>, key: u32, key_bytes: u32, into: u32| {
            let memory = memory(&mut caller)?;
            let (data, guest) = memory.data_and_store_mut(&mut caller);
            let number = match find(guest, part(data, key, key_bytes, "attribute_number")?) {
                Some(AttributeValue::Unsigned(number)) => number.to_le_bytes(),
                Some(AttributeValue::Signed(number)) => number.to_le_bytes(),
                _ => return Ok(0),
            };
            part_mut(data, into, 8, "attribute_number")?.copy_from_slice(&number);
            wasmtime::Result::Ok(1)
        },
    )?;
    linker.func_wrap(MODULE, "topic", |mut caller: Caller<'_, Guest>, into: u32, room: u32| {
        let memory = memory(&mut caller)?;
        let (data, guest) = memory.data_and_store_mut(&mut caller);
        let Some(event) = guest.event() else { return Ok(-1) };
        wasmtime::Result::Ok(copy(event.topic.as_str().as_bytes(), part_mut(data, into, room, "topic")?))
    })?;
    linker.func_wrap(MODULE, "event", |caller: Caller<'_, Guest>, number: i32| {
        let Some(event) = caller.data().event() else { return 0 };
        let value = match number {
            0 => event.id,
            1 => u64::from(event.level.0),
            2 => event.source_time_ns,
            3 => event.arrival_ns,
            4 => event.deadline_ns,
            _ => 0,
        };
        value as i64
    })?;
    Ok(())
}

/// The guest's memory: known before an event, looked up while it is starting.
fn memory(caller: &mut Caller<'_, Guest>) -> wasmtime::Result<Memory> {
    if let Some(memory) = caller.data().memory {
        return Ok(memory);
    }
    match caller.get_export("memory").and_then(wasmtime::Extern::into_memory) {
        Some(memory) => Ok(memory),
        None => bail!("it exports no memory"),
    }
}

fn part<'a>(data: &'a [u8], at: u32, bytes: u32, import: &str) -> wasmtime::Result<&'a [u8]> {
    let (at, bytes) = (at as usize, bytes as usize);
    match data.get(at..).and_then(|rest| rest.get(..bytes)) {
        Some(part) => Ok(part),
        None => {
            bail!("tempos.{import} was called with {bytes} bytes at {at}, which is not within its memory")
        }
    }
}

fn part_mut<'a>(data: &'a mut [u8], at: u32, bytes: u32, import: &str) -> wasmtime::Result<&'a mut [u8]> {
    let (at, bytes) = (at as usize, bytes as usize);
    match data.get_mut(at..).and_then(|rest| rest.get_mut(..bytes)) {
        Some(part) => Ok(part),
        None => {
            bail!("tempos.{import} was called with {bytes} bytes at {at}, which is not within its memory")
        }
    }
}

/// As much as fits; the answer is how long it is.
fn copy(from: &[u8], to: &mut [u8]) -> i32 {
    let fits = from.len().min(to.len());
    to[..fits].copy_from_slice(&from[..fits]);
    from.len() as i32
}

/// The text that the bytes begin with.
pub fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
    }
}

/// The event's attribute of that key.
fn find<'a>(guest: &'a Guest, key: &[u8]) -> Option<AttributeValue<'a>> {
    let key = std::str::from_utf8(key.get(..key.len().min(KEY_BYTES_MAX))?).ok()?;
    guest.event()?.attributes().get(key)
}

/// Room for what a number or an address looks like.
struct Shown {
    bytes: [u8; 64],
    len: usize,
}

impl Default for Shown {
    fn default() -> Self {
        Shown { bytes: [0; 64], len: 0 }
    }
}

impl std::fmt::Write for Shown {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl Shown {
    /// A value as text, or as the bytes that it has.
    fn show<'a>(&'a mut self, value: AttributeValue<'a>) -> &'a [u8] {
        let written = match value {
            AttributeValue::Bytes(bytes) => return bytes,
            AttributeValue::Text(text) => return text.as_bytes(),
            AttributeValue::Unsigned(number) => write!(self, "{number}"),
            AttributeValue::Signed(number) => write!(self, "{number}"),
            AttributeValue::Address(bytes) => match address(bytes) {
                Some(address) => write!(self, "{address}"),
                None => return bytes,
            },
            _ => Ok(()),
        };
        if written.is_err() { &[] } else { &self.bytes[..self.len] }
    }
}

fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_at_checked(bytes.len().checked_sub(2)?)?;
    let port = u16::from_be_bytes(port.try_into().ok()?);
    let ip = match ip.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_text() {
        let show = |value| String::from_utf8_lossy(Shown::default().show(value)).into_owned();
        assert_eq!(show(AttributeValue::Unsigned(u64::MAX)), "18446744073709551615");
        assert_eq!(show(AttributeValue::Signed(-2)), "-2");
        assert_eq!(show(AttributeValue::Text("mm/s")), "mm/s");
        assert_eq!(show(AttributeValue::Address(&[127, 0, 0, 1, 0x15, 0x7c])), "127.0.0.1:5500");
        let mut six = [0xff; 18];
        six[16..].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(show(AttributeValue::Address(&six)), "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
    }
}
