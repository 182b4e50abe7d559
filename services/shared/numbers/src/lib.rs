//! Numbers as people type them, made into E.164.
//!
//! A thin layer over `rlibphonenumber`: it knows the plans of every country; we say what counts. A number counts when
//! its length is *possible* in its country; whether a block of numbers is assigned changes monthly and is the
//! operators' business (and numbers reserved for fiction, such as +1 415 555 0101, must work in every example).

use dialtone_vocab::PhoneNumber;
use rlibphonenumber::{NumberLengthType, ParseError, PhoneNumber as Parsed, PhoneNumberFormat, Region};

/// Longest text that is looked at.
pub const MAX_TYPED: usize = 64;

/// Why a text is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// It can't be read as a phone number.
    #[error("not a phone number")]
    Malformed,
    /// It is a local form and nobody said of which country.
    #[error("a local number needs a country")]
    NeedsCountry,
    /// It is a form for a town, which several area codes could complete.
    #[error("the area code is missing")]
    Ambiguous,
    /// The country hint is not an ISO 3166-1 alpha-2 code that has phone numbers.
    #[error("unknown region")]
    UnknownRegion,
}

/// Reads a number as typed; `region` is an ISO 3166-1 alpha-2 hint for local forms, or empty.
///
/// # Errors
/// [`NumberError`]; the text is not repeated in it.
pub fn normalise(typed: &str, region: &str) -> Result<PhoneNumber, NumberError> {
    if typed.len() > MAX_TYPED {
        return Err(NumberError::Malformed);
    }
    let region = match region {
        "" => None,
        code => Some(code.to_ascii_uppercase().parse::<Region>().map_err(|_| NumberError::UnknownRegion)?),
    };
    let parsed = Parsed::parse(typed, region).map_err(|error| match error {
        ParseError::InvalidCountryCode if region.is_none() && !typed.trim_start().starts_with('+') => {
            NumberError::NeedsCountry
        }
        _ => NumberError::Malformed,
    })?;
    match parsed.is_possible_with_reason() {
        Ok(NumberLengthType::IsPossible) => {}
        Ok(NumberLengthType::IsPossibleLocalOnly) => return Err(NumberError::Ambiguous),
        Err(_) => return Err(NumberError::Malformed),
    }
    PhoneNumber::parse_e164(&parsed.format_as(PhoneNumberFormat::E164)).map_err(|_| NumberError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(typed: &str, region: &str) -> Result<String, NumberError> {
        normalise(typed, region).map(|number| number.to_string())
    }

    #[test]
    fn local_forms_are_read_in_their_country() {
        for typed in [
            "(415) 555-0101",
            "415-555-0101",
            "415.555.0101",
            "+1 415 555 0101",
            "1 415 555 0101",
            "+14155550101",
        ] {
            assert_eq!(read(typed, "US"), Ok("+14155550101".into()), "{typed}");
        }
        assert_eq!(read("0151 12345678", "DE"), Ok("+4915112345678".into()));
        assert_eq!(read("0049 151 12345678", "DE"), Ok("+4915112345678".into()));
        assert_eq!(read("011 49 151 12345678", "us"), Ok("+4915112345678".into()));
        assert_eq!(read("138 0013 8000", "CN"), Ok("+8613800138000".into()));
    }

    #[test]
    fn what_is_no_number_says_why() {
        for bad in ["", "hello", "+", "12", "+1415555010199999", "++1", &"1".repeat(100)] {
            assert!(matches!(read(bad, "US"), Err(NumberError::Malformed)), "{bad:?} {:?}", read(bad, "US"));
        }
        assert_eq!(read("0151 12345678", ""), Err(NumberError::NeedsCountry));
        assert_eq!(read("555-0101", "US"), Err(NumberError::Ambiguous));
        assert_eq!(read("0151 12345678", "ZZ9"), Err(NumberError::UnknownRegion));
        assert_eq!(read("+4915112345678", ""), Ok("+4915112345678".into()));
    }

    proptest! {
        /// What came out goes in again and stays, whatever the region.
        #[test]
        fn reading_twice_changes_nothing(area in 201u32..990, last in 0u32..10_000, region in prop_oneof![Just(""), Just("DE"), Just("US")]) {
            if let Ok(number) = read(&format!("+1{area}555{last:04}"), "") {
                prop_assert_eq!(read(&number, region), Ok(number.clone()));
            }
        }

        /// Nothing a person types brings it down.
        #[test]
        fn anything_may_be_typed(typed in ".{0,70}", region in "[A-Za-z]{0,3}") {
            let _any_outcome = normalise(&typed, &region);
        }
    }
}
