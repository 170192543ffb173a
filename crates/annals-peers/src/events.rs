//! The events, which are the same for all engines: 256 bytes of data that look like JSON, 32 of
//! metadata, a type of 16, in streams `order-<n>`.

use crate::engine::Wanted;

pub const TYPES: [&str; 4] = ["OrderLineAdded__", "OrderLineRemoved", "OrderConfirmed__", "OrderShipped____"];
/// A type that no event of a data set has.
pub const ABSENT_TYPE: &str = "OrderCancelled__";
pub const METADATA: &[u8; 32] = b"{\"cid\":\"0123456789abcdef\",\"u\":7}";
const DATA_BYTES: usize = 256;
/// Bytes that an event has for the caller: data, metadata, type, and the name of its stream.
pub const CONTENT: u64 = 256 + 32 + 16 + 10;

/// A stream, by the name that engines know and by its number.
#[derive(Clone)]
pub struct Stream {
    pub number: u64,
    pub name: String,
}

impl Stream {
    pub fn new(number: u64) -> Self {
        Stream { number, name: format!("order-{number}") }
    }
}

/// An event in flight into a store.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    pub stream: &'a Stream,
    /// Events that the stream has before it.
    pub sequence: u64,
    pub event_type: &'static str,
    pub tag: Option<&'a str>,
    pub metadata: &'a [u8],
    pub data: &'a [u8],
}

/// The events, made in advance: making them is not what is measured.
pub struct Events {
    data: Vec<Vec<u8>>,
    tags: Vec<String>,
}

impl Events {
    /// Events without tags.
    pub fn new() -> Self {
        Self::tagged(0)
    }

    /// Events that have one of so many tags each.
    pub fn tagged(tags: u64) -> Self {
        let mut random = Random::new(42);
        let data = (0..1024).map(|_| data(&mut random)).collect();
        Events { data, tags: (0..tags).map(|n| format!("customer:{n}")).collect() }
    }

    /// Event `n` of all, to stand at this place of its stream.
    pub fn event<'a>(&'a self, n: u64, stream: &'a Stream, sequence: u64) -> Event<'a> {
        let data = &self.data[n.wrapping_mul(2_654_435_761) as usize % self.data.len()];
        let tag = (!self.tags.is_empty()).then(|| &*self.tags[spread(n) as usize % self.tags.len()]);
        Event { stream, sequence, event_type: TYPES[n as usize % TYPES.len()], tag, metadata: METADATA, data }
    }
}

/// So that tags do not come at regular distances.
fn spread(n: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20
}

fn data(random: &mut Random) -> Vec<u8> {
    let mut text =
        format!("{{\"sku\":\"{:08x}\",\"quantity\":{},\"note\":\"", random.below(1 << 32), random.below(100));
    while text.len() < DATA_BYTES - 2 {
        text.push(char::from_digit(random.below(16) as u32, 16).expect("a digit"));
    }
    text.push_str("\"}");
    text.into_bytes()
}

/// A query that finds events of a data set with so many tags, or, with [`ABSENT_TYPE`], none.
pub fn wanted(random: &mut Random, tags: u64, event_type: Option<&'static str>) -> Wanted {
    let event_type = event_type.unwrap_or_else(|| TYPES[random.below(TYPES.len() as u64) as usize]);
    Wanted { tag: format!("customer:{}", random.below(tags)), event_type }
}

/// What became of the events that were read. Adding up the words makes sure that each byte was
/// there.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sum {
    pub events: u64,
    pub words: u64,
}

impl Sum {
    #[inline]
    pub fn add(&mut self, event_type: &[u8], metadata: &[u8], data: &[u8]) {
        self.events += 1;
        for bytes in [event_type, metadata, data] {
            self.words = self.words.wrapping_add(sum_of_words(bytes));
        }
    }

    pub fn join(&mut self, other: Sum) {
        self.events += other.events;
        self.words = self.words.wrapping_add(other.words);
    }
}

#[inline]
fn sum_of_words(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0u64, |sum, &word| sum.wrapping_add(u64::from_le_bytes(word)));
    rest.iter().fold(sum, |sum, &byte| sum.wrapping_add(u64::from(byte)))
}

/// Numbers that look random and are the same in every run (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % n
    }
}
