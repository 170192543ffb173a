//! Typed payloads, as JSON or as bincode.
//!
//! bincode is the one dependency that is no longer maintained (RUSTSEC-2025-0141): it is pinned, kept in this file, and no bytes that Annals itself
//! relies on are made by it. Events carry the codec as their content type, so that what was written stays readable when another codec takes its place.

use crate::error::{Error, Result};
use crate::event::{ContentType, Event, NewEvent};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;

/// Most bytes that decoding may allocate for: a length inside of the bytes is not believed beyond it.
const DECODE_LIMIT: usize = 64 << 20;

fn bincode_config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<DECODE_LIMIT>()
}

fn codec_error(codec: &'static str) -> impl FnOnce(&dyn std::fmt::Display) -> Error {
    move |error| Error::Codec { codec, why: error.to_string() }
}

impl<'a> NewEvent<'a> {
    /// An event whose data are a value as JSON.
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
    /// [`Error::Codec`] if the value cannot be written as JSON.
    #[cfg(feature = "json")]
    pub fn json<T: Serialize + ?Sized>(event_type: impl Into<Cow<'a, str>>, value: &T) -> Result<Self> {
        let data = serde_json::to_vec(value).map_err(|e| codec_error("json")(&e))?;
        Ok(NewEvent::with_data(event_type, data).content_type(ContentType::Json))
    }

    /// An event whose data are a value as bincode: smaller and faster than JSON, and readable only by who knows the type.
    ///
    /// # Errors
    ///
    /// [`Error::Codec`] if the value cannot be written as bincode.
    pub fn bincode<T: Serialize + ?Sized>(event_type: impl Into<Cow<'a, str>>, value: &T) -> Result<Self> {
        let data = bincode::serde::encode_to_vec(value, bincode_config()).map_err(|e| codec_error("bincode")(&e))?;
        Ok(NewEvent::with_data(event_type, data).content_type(ContentType::Bincode))
    }
}

impl Event {
    /// The data as a value, decoded as the content type says: JSON or bincode.
    ///
    /// # Errors
    ///
    /// [`Error::Codec`] if the content type is another one, or the data are not such a value.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        match self.content_type() {
            #[cfg(feature = "json")]
            ContentType::Json => serde_json::from_slice(self.data()).map_err(|e| codec_error("json")(&e)),
            ContentType::Bincode => {
                let decoded = bincode::serde::decode_from_slice(self.data(), bincode_config());
                let (value, read) = decoded.map_err(|e| codec_error("bincode")(&e))?;
                if read != self.data().len() {
                    return Err(codec_error("bincode")(&"bytes are left over"));
                }
                Ok(value)
            }
            other => Err(codec_error("content type")(&format!("{other:?} cannot be decoded"))),
        }
    }
}
