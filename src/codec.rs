//! Typed payloads and states, as JSON or as bincode.
//!
//! bincode is the one dependency that is no longer maintained (RUSTSEC-2025-0141): it is pinned,
//! used only in this file, and no bytes that Annals itself depends on are made by it. Events carry
//! the codec as their content type, so that old ones stay readable if another codec replaces it.

mod digest;

use crate::error::{Error, Result};
use crate::event::{ContentType, NewEvent};
use crate::format::event::Event;
use crate::format::snapshot_file::Codec;
use digest::digest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;

/// Maximum number of bytes of memory that a value takes for each of its bytes as bincode: a `u128`
/// of one byte.
const EXPANSION: usize = 16;

fn bincode_of<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).map_err(|e| codec_error("bincode")(&e))
}

/// Decodes a value that takes all of `bytes`. A length inside of the bytes is trusted only up to
/// what this many bytes can stand for, or 64 MiB: everything that was encoded can be decoded, and a
/// false length allocates no more than that.
fn from_bincode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    /// The next step is tried if this one is not enough for this many bytes.
    fn step<T: DeserializeOwned, const LIMIT: usize>(
        bytes: &[u8],
        next: impl FnOnce(&[u8]) -> Decoded<T>,
    ) -> Decoded<T> {
        if bytes.len() > LIMIT / EXPANSION {
            return next(bytes);
        }
        bincode::serde::decode_from_slice(bytes, bincode::config::standard().with_limit::<LIMIT>())
    }
    type Decoded<T> = std::result::Result<(T, usize), bincode::error::DecodeError>;
    const MIB: usize = 1 << 20;
    let huge = |bytes: &[u8]| bincode::serde::decode_from_slice(bytes, bincode::config::standard());
    let decoded = step::<T, { 64 * MIB }>(bytes, |bytes| {
        step::<T, { 256 * MIB }>(bytes, |bytes| {
            step::<T, { 1024 * MIB }>(bytes, |bytes| step::<T, { 2047 * MIB }>(bytes, huge))
        })
    });
    let (value, read) = decoded.map_err(|e| codec_error("bincode")(&e))?;
    if read == bytes.len() { Ok(value) } else { Err(codec_error("bincode")(&"bytes are left over")) }
}

/// The deepest nesting that the JSON parser accepts.
#[cfg(feature = "json")]
const MAX_DEPTH: usize = 127;

/// Writes compact JSON, and refuses deeper nesting than the parser accepts: it could never be read.
#[cfg(feature = "json")]
struct Shallow {
    depth: usize,
}

#[cfg(feature = "json")]
impl Shallow {
    fn open<W: std::io::Write + ?Sized>(&mut self, out: &mut W, bracket: &[u8]) -> std::io::Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(std::io::Error::other(format!("the value nests deeper than {MAX_DEPTH} levels")));
        }
        out.write_all(bracket)
    }

    fn close<W: std::io::Write + ?Sized>(&mut self, out: &mut W, bracket: &[u8]) -> std::io::Result<()> {
        self.depth -= 1;
        out.write_all(bracket)
    }
}

#[cfg(feature = "json")]
impl serde_json::ser::Formatter for Shallow {
    fn begin_array<W: std::io::Write + ?Sized>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: std::io::Write + ?Sized>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_object<W: std::io::Write + ?Sized>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: std::io::Write + ?Sized>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.close(out, b"}")
    }
}

#[cfg(feature = "json")]
fn json_of<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(128);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Shallow { depth: 0 });
    value.serialize(&mut serializer).map_err(|e| codec_error("json")(&e))?;
    Ok(out)
}

/// Encodes a state. A state that no type can read back unchanged is refused; whether this type can
/// is not known here.
pub(crate) fn encode_state<S: Serialize + ?Sized>(codec: Codec, state: &S) -> Result<Vec<u8>> {
    let bytes = encode(codec, state)?;
    let (_, hazards) = digest(state).map_err(|e| codec_error(name(codec))(&e))?;
    let why = match codec {
        Codec::Bincode if hazards.skipped => "a field is left out, and bincode would read the next one in its place",
        Codec::Json if hazards.not_finite => "a number is not finite, and JSON cannot represent it",
        Codec::Json if hazards.some_nothing => "a value within `Some` is `null` in JSON, as `None` is",
        _ => return Ok(bytes),
    };
    Err(codec_error(name(codec))(&format!("the codec does not return the state unchanged: {why}")))
}

/// Encodes a state, and checks that it decodes to the same state. Costs a decoding, a second state
/// in memory meanwhile, and two traversals of the state.
pub(crate) fn encode_faithfully<S: Serialize + DeserializeOwned>(codec: Codec, state: &S) -> Result<Vec<u8>> {
    let bytes = encode(codec, state)?;
    let lost = |why: &dyn std::fmt::Display| {
        codec_error(name(codec))(&format!("the codec does not return the state unchanged, so it is not kept: {why}"))
    };
    let back: S = decode_state(codec, &bytes).map_err(|e| match e {
        Error::Codec { why, .. } => lost(&why),
        other => other,
    })?;
    let (put, _) = digest(state).map_err(|e| lost(&e))?;
    let (found, _) = digest(&back).map_err(|e| lost(&e))?;
    if put.is_same(&found) { Ok(bytes) } else { Err(lost(&"decoded, it differs")) }
}

/// Decodes a state.
pub(crate) fn decode_state<S: DeserializeOwned>(codec: Codec, bytes: &[u8]) -> Result<S> {
    match codec {
        Codec::Bincode => from_bincode(bytes),
        Codec::Json => state_from_json(bytes),
        Codec::Bytes => Err(not_a_value()),
    }
}

fn encode<S: Serialize + ?Sized>(codec: Codec, state: &S) -> Result<Vec<u8>> {
    match codec {
        Codec::Bincode => bincode_of(state),
        Codec::Json => state_to_json(state),
        Codec::Bytes => Err(not_a_value()),
    }
}

fn name(codec: Codec) -> &'static str {
    match codec {
        Codec::Bincode => "bincode",
        Codec::Json => "json",
        Codec::Bytes => "bytes",
    }
}

#[cfg(feature = "json")]
fn state_to_json<T: Serialize + ?Sized>(state: &T) -> Result<Vec<u8>> {
    json_of(state)
}

#[cfg(feature = "json")]
fn state_from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| codec_error("json")(&e))
}

#[cfg(not(feature = "json"))]
fn state_to_json<T: Serialize + ?Sized>(_: &T) -> Result<Vec<u8>> {
    Err(codec_error("json")(&NO_JSON))
}

#[cfg(not(feature = "json"))]
fn state_from_json<T: DeserializeOwned>(_: &[u8]) -> Result<T> {
    Err(codec_error("json")(&NO_JSON))
}

#[cfg(not(feature = "json"))]
const NO_JSON: &str = "the feature `json` is not enabled";

/// States that are not values.
fn not_a_value() -> Error {
    codec_error("bytes")(&"raw bytes are not a value; use `put_bytes` and `bytes`")
}

fn codec_error(codec: &'static str) -> impl FnOnce(&dyn std::fmt::Display) -> Error {
    move |error| Error::Codec { codec, why: error.to_string() }
}

impl<'a> NewEvent<'a> {
    /// Returns an event whose data are a value as JSON.
    ///
    /// ```
    /// #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    /// struct Placed { sku: u32 }
    /// use annals::{Expected, NewEvent, Store, StreamId};
    /// let store = Store::in_memory();
    /// let order = StreamId::new("order", "1")?;
    /// store.append(&order, Expected::Any, [NewEvent::json("Placed", &Placed { sku: 7 })?])?;
    /// let event = store.read(&order).into_iter().next().expect("there is one")?;
    /// assert_eq!(event.decode::<Placed>()?, Placed { sku: 7 });
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Codec`] if the value cannot be written as JSON, or nests deeper than 127 levels,
    /// which no parser would read. JSON has no number for NaN and infinity: they are written as
    /// `null`.
    #[cfg(feature = "json")]
    pub fn json<T: Serialize + ?Sized>(event_type: impl Into<Cow<'a, str>>, value: &T) -> Result<Self> {
        let data = json_of(value)?;
        Ok(NewEvent::with_data(event_type, data).content_type(ContentType::Json))
    }

    /// Returns an event whose data are a value as bincode: smaller and faster than JSON, and
    /// readable only with its type.
    ///
    /// # Errors
    ///
    /// [`Error::Codec`] if the value cannot be written as bincode.
    pub fn bincode<T: Serialize + ?Sized>(event_type: impl Into<Cow<'a, str>>, value: &T) -> Result<Self> {
        let data = bincode_of(value)?;
        Ok(NewEvent::with_data(event_type, data).content_type(ContentType::Bincode))
    }
}

impl Event {
    /// Decodes the data according to the content type: JSON or bincode.
    ///
    /// # Errors
    ///
    /// [`Error::Codec`] if the content type is another one, or the data are not such a value.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        match self.content_type() {
            #[cfg(feature = "json")]
            ContentType::Json => serde_json::from_slice(self.data()).map_err(|e| codec_error("json")(&e)),
            ContentType::Bincode => from_bincode(self.data()),
            other => Err(codec_error("content type")(&format!("{other:?} cannot be decoded"))),
        }
    }
}
