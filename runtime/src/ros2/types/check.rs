//! Whether types are complete and of a size that can be: what a robot sends, or a file says, must not
//! make this program call itself without end or write gigabytes of zeros.

use std::collections::HashMap;

use super::{Kind, Shape, TypeError, Types};

/// Most messages within messages.
const MAX_DEPTH: usize = 32;

/// Most bytes of a message that says nothing (fixed arrays count whole).
const MAX_EMPTY_BYTES: usize = 1 << 20;

impl Types {
    /// # Errors
    /// The first type that names one that is not there, contains itself, or is too large.
    pub(in crate::ros2) fn check(&self) -> Result<(), TypeError> {
        let mut sizes = HashMap::new();
        for name in self.messages.keys() {
            self.size(name, 0, &mut sizes)?;
        }
        Ok(())
    }

    /// About how many bytes a message has whose sequences and strings are empty.
    fn size<'a>(
        &'a self,
        name: &'a str,
        depth: usize,
        sizes: &mut HashMap<&'a str, Option<usize>>,
    ) -> Result<usize, TypeError> {
        match sizes.get(name) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => return Err(TypeError::Loop(name.to_owned())),
            None => {}
        }
        let too_large = |what, max| TypeError::TooLarge {
            name: name.to_owned(),
            what,
            max,
        };
        if depth > MAX_DEPTH {
            return Err(too_large("messages within messages", MAX_DEPTH));
        }
        sizes.insert(name, None);
        let mut total = 0_usize;
        for field in self.fields(name)? {
            let one = match &field.kind {
                Kind::Message(inner) => self.size(inner, depth + 1, sizes)?,
                _ => 8,
            };
            let n = match field.shape {
                Shape::Array(n) => n as usize,
                Shape::One | Shape::Bounded(_) | Shape::Sequence => 1,
            };
            total = total.saturating_add(one.saturating_mul(n));
        }
        if total > MAX_EMPTY_BYTES {
            return Err(too_large("bytes without a word said", MAX_EMPTY_BYTES));
        }
        sizes.insert(name, Some(total));
        Ok(total)
    }
}
