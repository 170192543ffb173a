//! A digest of the content of a value: to find out whether a decoded state equals the encoded one.
//!
//! Comparing encoded bytes does not tell: a codec without names may read the fields of a struct
//! from the bytes of others, and write the same bytes again. Here, names of fields and variants
//! count.

use serde::ser::{self, Serialize, Serializer};
use std::cell::Cell;
use std::fmt::{self, Display};

/// The digest of a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digest {
    ordered: u64,
    /// The same for any order of elements and entries: sets and maps have none.
    unordered: u64,
    /// JSON has `null` for it.
    null: bool,
}

impl Digest {
    pub(super) fn is_same(&self, other: &Digest) -> bool {
        self.ordered == other.ordered || self.unordered == other.unordered
    }
}

/// What some codec cannot return unchanged, for any type.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Hazards {
    /// A field of a struct was left out: without names, the next one is read in its place.
    pub skipped: bool,
    /// A number is infinite or NaN, which JSON cannot represent.
    pub not_finite: bool,
    /// `Some` of nothing: JSON has the same form for it as for `None`.
    pub some_nothing: bool,
}

/// The digest of a value, and what in it is hard to encode.
pub(super) fn digest<T: Serialize + ?Sized>(value: &T) -> Result<(Digest, Hazards), NotSerializable> {
    let reader = DigestReader::default();
    let digest = value.serialize(&reader)?;
    Ok((digest, reader.0.get()))
}

/// The value's `Serialize` returns an error.
#[derive(Debug)]
pub(super) struct NotSerializable(String);

impl Display for NotSerializable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotSerializable {}

impl ser::Error for NotSerializable {
    fn custom<T: Display>(why: T) -> Self {
        NotSerializable(why.to_string())
    }
}

#[derive(Default)]
struct DigestReader(Cell<Hazards>);

impl DigestReader {
    fn note(&self, note: impl Fn(&mut Hazards)) {
        let mut hazards = self.0.get();
        note(&mut hazards);
        self.0.set(hazards);
    }
}

/// Mixes a word into a hash: a multiplication by an odd number, and the upper half folded onto the
/// lower one.
fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word ^ 0x9E37_79B9_7F4A_7C15) * 0xA076_1D64_78BD_642F;
    (product as u64) ^ (product >> 64) as u64 ^ hash.rotate_left(23)
}

fn of_bytes(kind: u64, bytes: &[u8]) -> Digest {
    let mut hash = mix(kind, bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash, u64::from_le_bytes(word));
    }
    Digest { ordered: hash, unordered: hash, null: false }
}

fn of_word(kind: u64, word: u64) -> Digest {
    let hash = mix(kind, word);
    Digest { ordered: hash, unordered: hash, null: false }
}

const NOTHING: Digest = Digest { ordered: 1, unordered: 1, null: true };

/// Several values in order.
struct Many<'r> {
    reader: &'r DigestReader,
    ordered: u64,
    /// A sum, which does not depend on order.
    unordered: u64,
    /// The key of a map entry whose value comes next.
    key: Option<Digest>,
    /// The index of the next element, where it counts: in a tuple, but not in a sequence, which may
    /// be that of a set.
    place: Option<u64>,
}

impl<'r> Many<'r> {
    fn new(reader: &'r DigestReader, kind: u64, variant: &str) -> Self {
        let Digest { ordered, unordered, .. } = of_bytes(kind, variant.as_bytes());
        Many { reader, ordered, unordered, key: None, place: None }
    }

    fn tuple(reader: &'r DigestReader, kind: u64, variant: &str) -> Self {
        Many { place: Some(0), ..Many::new(reader, kind, variant) }
    }

    fn add(&mut self, name: Option<Digest>, value: Digest) {
        let name = name.unwrap_or(NOTHING);
        self.ordered = mix(mix(self.ordered, name.ordered), value.ordered);
        self.unordered = self.unordered.wrapping_add(mix(mix(7, name.unordered), value.unordered));
    }

    fn value<T: Serialize + ?Sized>(&mut self, name: Option<&'static str>, value: &T) -> Result<(), NotSerializable> {
        let value = value.serialize(self.reader)?;
        let name = name.map(|name| of_bytes(2, name.as_bytes())).or(self.place.map(|place| of_word(20, place)));
        self.place = self.place.map(|place| place + 1);
        self.add(name, value);
        Ok(())
    }

    fn finish(self) -> Result<Digest, NotSerializable> {
        Ok(Digest { ordered: self.ordered, unordered: mix(3, self.unordered), null: false })
    }
}

macro_rules! words {
    ($($name:ident: $type:ty,)*) => {
        $(fn $name(self, value: $type) -> Result<Digest, NotSerializable> {
            Ok(of_word(4, value as u64))
        })*
    };
}

impl<'r> Serializer for &'r DigestReader {
    type Ok = Digest;
    type Error = NotSerializable;
    type SerializeSeq = Many<'r>;
    type SerializeTuple = Many<'r>;
    type SerializeTupleStruct = Many<'r>;
    type SerializeTupleVariant = Many<'r>;
    type SerializeMap = Many<'r>;
    type SerializeStruct = Many<'r>;
    type SerializeStructVariant = Many<'r>;

    words! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_char: char,
    }

    fn serialize_i128(self, value: i128) -> Result<Digest, NotSerializable> {
        Ok(of_bytes(5, &value.to_le_bytes()))
    }

    fn serialize_u128(self, value: u128) -> Result<Digest, NotSerializable> {
        Ok(of_bytes(5, &value.to_le_bytes()))
    }

    fn serialize_f32(self, value: f32) -> Result<Digest, NotSerializable> {
        self.note(|hazards| hazards.not_finite |= !value.is_finite());
        Ok(of_word(6, value.to_bits().into()))
    }

    fn serialize_f64(self, value: f64) -> Result<Digest, NotSerializable> {
        self.note(|hazards| hazards.not_finite |= !value.is_finite());
        Ok(of_word(6, value.to_bits()))
    }

    fn serialize_str(self, value: &str) -> Result<Digest, NotSerializable> {
        Ok(of_bytes(8, value.as_bytes()))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Digest, NotSerializable> {
        Ok(of_bytes(9, value))
    }

    fn serialize_none(self) -> Result<Digest, NotSerializable> {
        Ok(NOTHING)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Digest, NotSerializable> {
        let value = value.serialize(self)?;
        self.note(|hazards| hazards.some_nothing |= value.null);
        let (ordered, unordered) = (mix(10, value.ordered), mix(10, value.unordered));
        Ok(Digest { ordered, unordered, null: value.null })
    }

    fn serialize_unit(self) -> Result<Digest, NotSerializable> {
        Ok(Digest { ordered: 11, unordered: 11, null: true })
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Digest, NotSerializable> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Digest, NotSerializable> {
        Ok(of_bytes(12, variant.as_bytes()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Digest, NotSerializable> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Digest, NotSerializable> {
        let mut many = Many::new(self, 13, variant);
        many.value(None, value)?;
        many.finish()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Many<'r>, NotSerializable> {
        Ok(Many::new(self, 14, ""))
    }

    fn serialize_tuple(self, _: usize) -> Result<Many<'r>, NotSerializable> {
        Ok(Many::tuple(self, 15, ""))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Many<'r>, NotSerializable> {
        Ok(Many::tuple(self, 15, ""))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Many<'r>, NotSerializable> {
        Ok(Many::tuple(self, 16, variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Many<'r>, NotSerializable> {
        Ok(Many::new(self, 17, ""))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Many<'r>, NotSerializable> {
        Ok(Many::new(self, 18, ""))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Many<'r>, NotSerializable> {
        Ok(Many::new(self, 19, variant))
    }
}

macro_rules! elements {
    ($($kind:ident: $name:ident,)*) => {
        $(impl ser::$kind for Many<'_> {
            type Ok = Digest;
            type Error = NotSerializable;

            fn $name<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotSerializable> {
                self.value(None, value)
            }

            fn end(self) -> Result<Digest, NotSerializable> {
                self.finish()
            }
        })*
    };
}

elements! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! fields {
    ($($kind:ident,)*) => {
        $(impl ser::$kind for Many<'_> {
            type Ok = Digest;
            type Error = NotSerializable;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), NotSerializable> {
                self.value(Some(name), value)
            }

            fn skip_field(&mut self, _: &'static str) -> Result<(), NotSerializable> {
                self.reader.note(|hazards| hazards.skipped = true);
                Ok(())
            }

            fn end(self) -> Result<Digest, NotSerializable> {
                self.finish()
            }
        })*
    };
}

fields! { SerializeStruct, SerializeStructVariant, }

impl ser::SerializeMap for Many<'_> {
    type Ok = Digest;
    type Error = NotSerializable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NotSerializable> {
        self.key = Some(key.serialize(self.reader)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotSerializable> {
        let (key, value) = (self.key.take(), value.serialize(self.reader)?);
        self.add(key, value);
        Ok(())
    }

    fn end(self) -> Result<Digest, NotSerializable> {
        self.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;
    use std::collections::{BTreeMap, HashMap, HashSet};

    fn same<A: Serialize, B: Serialize>(a: &A, b: &B) -> bool {
        digest(a).unwrap().0.is_same(&digest(b).unwrap().0)
    }

    #[derive(Serialize)]
    struct Of {
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<u8>,
        count: u8,
        extra: Vec<u8>,
    }

    #[test]
    fn names_count_and_order_does_where_there_is_one() {
        let put = Of { note: None, count: 1, extra: vec![7, 0] };
        let found = Of { note: Some(2), count: 7, extra: vec![] };
        assert!(same(&put, &Of { note: None, count: 1, extra: vec![7, 0] }) && !same(&put, &found));
        assert!(!same(&Some(1), &None::<i32>) && !same(&"a", &"b") && !same(&[1, 2, 3], &[1, 2, 2]));
        assert!(!same(&BTreeMap::from([(1, 2), (2, 1)]), &BTreeMap::from([(1, 1), (2, 2)])));
        assert!(!same(&(1, 2), &(2, 1)) && !same(&[1, 2], &[2, 1]) && same(&(1, 2), &(1, 2)));
        assert!(!same(&(0.0f64), &(-0.0f64)) && same(&f64::NAN, &f64::NAN));
        let numbers = || (0..100).map(|n| (n, n * n));
        assert!(same(&numbers().collect::<HashMap<_, _>>(), &numbers().collect::<HashMap<_, _>>()));
        assert!(same(&numbers().collect::<HashSet<_>>(), &numbers().collect::<HashSet<_>>()));
        assert!(!same(&numbers().collect::<HashSet<_>>(), &numbers().skip(1).collect::<HashSet<_>>()));
    }

    #[test]
    fn what_a_codec_has_no_word_for_is_noted() {
        let hazards = |value: &dyn Fn() -> Hazards| value();
        let of = |note| digest(&Of { note, count: 1, extra: vec![] }).unwrap().1;
        assert!(hazards(&|| of(None)).skipped && !of(Some(1)).skipped);
        assert!(digest(&vec![1.0, f64::INFINITY]).unwrap().1.not_finite && !digest(&1.5f32).unwrap().1.not_finite);
        assert!(digest(&Some(())).unwrap().1.some_nothing && digest(&Some(None::<u8>)).unwrap().1.some_nothing);
        assert!(!digest(&(Some(1), None::<u8>)).unwrap().1.some_nothing);
    }
}
