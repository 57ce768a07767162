//! Whether types are complete and of a size that can be: what a robot sends, or a file says, must not
//! make this program call itself without end or write gigabytes of zeros.

use std::collections::HashMap;

use super::{Kind, Shape, TypeError, Types};

/// Most messages within messages.
const MAX_DEPTH: usize = 32;

/// Most bytes of a message that says nothing (fixed arrays count whole).
const MAX_EMPTY_BYTES: usize = 1 << 20;

/// What a message that says nothing is.
#[derive(Clone, Copy)]
struct Extent {
    /// About how many bytes it has; sequences and strings are empty.
    bytes: usize,
    /// How many messages are within each other, itself among them.
    levels: usize,
}

/// Of messages; none of those that are being looked at.
type Extents<'a> = HashMap<&'a str, Option<Extent>>;

impl Types {
    /// # Errors
    /// The first type that names one that is not there, contains itself, or is too large.
    pub(in crate::ros2) fn check(&self) -> Result<(), TypeError> {
        let mut known = HashMap::new();
        for name in self.messages.keys() {
            self.extent(name, 1, &mut known)?;
        }
        Ok(())
    }

    /// `depth` says how many calls of it there are: one that is too deep ends before all are known.
    fn extent<'a>(
        &'a self,
        name: &'a str,
        depth: usize,
        known: &mut Extents<'a>,
    ) -> Result<Extent, TypeError> {
        match known.get(name) {
            Some(Some(extent)) => return Ok(*extent),
            Some(None) => return Err(TypeError::Loop(name.to_owned())),
            None => {}
        }
        let too_large = |what, max| TypeError::TooLarge {
            name: name.to_owned(),
            what,
            max,
        };
        let too_deep = || too_large("messages within messages", MAX_DEPTH);
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        known.insert(name, None);
        let (mut bytes, mut levels) = (0_usize, 1);
        for field in self.fields(name)? {
            let one = match &field.kind {
                Kind::Message(inner) if !self.messages.contains_key(inner) => {
                    return Err(TypeError::UnknownIn {
                        name: inner.clone(),
                        by: name.to_owned(),
                    });
                }
                Kind::Message(inner) => {
                    let inner = self.extent(inner, depth + 1, known)?;
                    levels = levels.max(inner.levels + 1);
                    inner.bytes
                }
                _ => 8,
            };
            let own = match field.shape {
                Shape::One => one,
                Shape::Array(n) => one.saturating_mul(n as usize),
                Shape::Bounded(_) | Shape::Sequence => 8,
            };
            bytes = bytes.saturating_add(own);
        }
        // Its own depth is counted here, since those within it may have been looked at before.
        if levels > MAX_DEPTH {
            return Err(too_deep());
        }
        if bytes > MAX_EMPTY_BYTES {
            return Err(too_large("bytes without a word said", MAX_EMPTY_BYTES));
        }
        let extent = Extent { bytes, levels };
        known.insert(name, Some(extent));
        Ok(extent)
    }
}
