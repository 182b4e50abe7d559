//! Phone numbers in their one inner form.

use std::fmt;

/// A phone number in E.164 form (ITU-T E.164: at most 15 digits, no leading zero), checked.
///
/// `Display` prints it with `+`, for the wire and for SMS; `Debug` never prints it, so that it can't slip
/// into a log line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhoneNumber(u64);

/// What was given is not a number in E.164 form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a phone number in E.164 form: '+', then 7 to 15 digits, the first not 0")]
pub struct MalformedNumber;

/// Fewest digits we take for a number; shorter ones are short codes, which are nobody's identity.
const MIN_DIGITS: usize = 7;
/// Most digits, by E.164.
const MAX_DIGITS: usize = 15;

impl PhoneNumber {
    /// From `+` and digits, nothing else: spaces and local forms are for the `numbers` crate.
    ///
    /// # Errors
    /// [`MalformedNumber`]; the text itself is not repeated in the error.
    pub fn parse_e164(text: &str) -> Result<Self, MalformedNumber> {
        let digits = text.strip_prefix('+').ok_or(MalformedNumber)?;
        let shape = (MIN_DIGITS..=MAX_DIGITS).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0');
        if !shape {
            return Err(MalformedNumber);
        }
        digits.parse().map(Self).map_err(|_| MalformedNumber)
    }

    /// The digits as an integer: for keys and hashes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Back from [`PhoneNumber::as_u64`].
    ///
    /// # Errors
    /// [`MalformedNumber`] if no number has these digits.
    pub fn from_u64(digits: u64) -> Result<Self, MalformedNumber> {
        Self::parse_e164(&format!("+{digits}"))
    }
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.0)
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneNumber(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_e164_and_nothing_else() {
        assert_eq!(PhoneNumber::parse_e164("+14155550101").map(|n| n.to_string()), Ok("+14155550101".into()));
        for bad in [
            "",
            "+",
            "14155550101",
            "+04155550101",
            "+1 415 555",
            "+123456",
            "+1234567890123456",
            "+1415x550101",
        ] {
            assert_eq!(PhoneNumber::parse_e164(bad), Err(MalformedNumber), "{bad:?}");
        }
    }

    #[test]
    fn debug_shows_no_digit() {
        let number = PhoneNumber::parse_e164("+14155550101").expect("valid");
        assert!(!format!("{number:?}").contains(|c: char| c.is_ascii_digit()));
    }

    #[test]
    fn survives_the_round_trip_as_integer() {
        let number = PhoneNumber::parse_e164("+4915112345678").expect("valid");
        assert_eq!(PhoneNumber::from_u64(number.as_u64()), Ok(number));
        assert_eq!(PhoneNumber::from_u64(12), Err(MalformedNumber));
    }
}
