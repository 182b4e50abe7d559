//! SMPP 3.4 PDUs of ours, and what we read in those of others.

use rusmpp::pdus::{BindTransceiver, DeliverSm, SubmitSm};
use rusmpp::types::{COctetString, OctetString};
use rusmpp::values::{
    DataCoding, EsmClass, GsmFeatures, InterfaceVersion, MessageType, Npi, RegisteredDelivery, Ton,
};

use crate::segment::{Encoding, header, split_header};

/// What a delivery receipt says (SMPP 3.4, appendix B).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) id: String,
    pub(crate) delivered: bool,
    /// Whether it is the last word.
    pub(crate) is_final: bool,
}

/// A short message that came: from, to, and either a text part or a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Short {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) encoding: Encoding,
    /// Reference, total and place among several parts.
    pub(crate) part: Option<(u8, u8, u8)>,
    pub(crate) octets: Vec<u8>,
}

/// A C-octet string of digits or letters; what does not fit is cut, which no address of ours needs.
fn c_octets<const MAX: usize>(text: &str) -> COctetString<1, MAX> {
    let kept: String = text.chars().filter(char::is_ascii).take(MAX - 1).collect();
    COctetString::from_string(kept).unwrap_or_default()
}

/// Type and numbering plan of an address: international digits, or letters.
fn address(text: &str) -> (Ton, Npi, COctetString<1, 21>) {
    match text.strip_prefix('+') {
        Some(digits) => (Ton::International, Npi::Isdn, c_octets(digits)),
        None => (Ton::Alphanumeric, Npi::Unknown, c_octets(text)),
    }
}

fn address_text(ton: Ton, address: &COctetString<1, 21>) -> String {
    match ton {
        Ton::International => format!("+{}", address.as_str()),
        _ => address.as_str().to_owned(),
    }
}

fn coding(encoding: Encoding) -> DataCoding {
    match encoding {
        Encoding::Gsm7 => DataCoding::McSpecific,
        Encoding::Ucs2 => DataCoding::Ucs2,
    }
}

fn encoding(coding: DataCoding) -> Encoding {
    if coding == DataCoding::Ucs2 { Encoding::Ucs2 } else { Encoding::Gsm7 }
}

pub(crate) fn bind(system_id: &str, password: &str) -> BindTransceiver {
    BindTransceiver::builder()
        .system_id(c_octets(system_id))
        .password(c_octets(password))
        .system_type(c_octets("dialtone"))
        .interface_version(InterfaceVersion::Smpp3_4)
        .build()
}

/// One part of an MT message, with a receipt asked for.
pub(crate) fn submit(
    from: &str,
    to: &str,
    encoding: Encoding,
    part: Option<(u8, u8, u8)>,
    octets: &[u8],
) -> SubmitSm {
    let ((from_ton, from_npi, from), (to_ton, to_npi, to)) = (address(from), address(to));
    let builder = SubmitSm::builder()
        .source_addr_ton(from_ton)
        .source_addr_npi(from_npi)
        .source_addr(from)
        .dest_addr_ton(to_ton)
        .dest_addr_npi(to_npi)
        .destination_addr(to)
        .registered_delivery(RegisteredDelivery::request_all())
        .data_coding(coding(encoding));
    let (class, message) = content(part, octets);
    builder.esm_class(class).short_message(message).build()
}

/// One part of an MO message, or a receipt.
pub(crate) fn deliver(short: &Short, receipt: bool) -> DeliverSm {
    let ((from_ton, from_npi, from), (to_ton, to_npi, to)) = (address(&short.from), address(&short.to));
    let (mut class, message) = content(short.part, &short.octets);
    if receipt {
        class.message_type = MessageType::ShortMessageContainsMCDeliveryReceipt;
    }
    DeliverSm::builder()
        .source_addr_ton(from_ton)
        .source_addr_npi(from_npi)
        .source_addr(from)
        .dest_addr_ton(to_ton)
        .dest_addr_npi(to_npi)
        .destination_addr(to)
        .data_coding(coding(short.encoding))
        .esm_class(class)
        .short_message(message)
        .build()
}

fn content(part: Option<(u8, u8, u8)>, octets: &[u8]) -> (EsmClass, OctetString<0, 255>) {
    let mut class = EsmClass::default();
    let octets = match part {
        Some((reference, total, place)) => {
            class.gsm_features = GsmFeatures::UdhiIndicator;
            [&header(reference, total, place)[..], octets].concat()
        }
        None => octets.to_vec(),
    };
    (class, OctetString::from_vec(octets).unwrap_or_default())
}

fn short(from: String, to: String, class: EsmClass, coding: DataCoding, octets: &[u8]) -> Short {
    let with_header = class.gsm_features == GsmFeatures::UdhiIndicator;
    let (part, octets) = match split_header(octets).filter(|_| with_header) {
        Some((part, rest)) => (Some(part), rest),
        None => (None, octets),
    };
    Short { from, to, encoding: encoding(coding), part, octets: octets.to_vec() }
}

/// What an MT message carries, as the centre reads it.
pub(crate) fn read_submit(submit: &SubmitSm) -> Short {
    let from = address_text(submit.source_addr_ton, &submit.source_addr);
    let to = address_text(submit.dest_addr_ton, &submit.destination_addr);
    short(from, to, submit.esm_class, submit.data_coding, submit.short_message().as_ref())
}

/// What an MO message carries: a part of a text, or a receipt.
pub(crate) fn read_deliver(deliver: &DeliverSm) -> Result<Short, Option<Receipt>> {
    if deliver.esm_class.message_type == MessageType::ShortMessageContainsMCDeliveryReceipt {
        return Err(parse_receipt(&String::from_utf8_lossy(deliver.short_message().as_ref())));
    }
    let from = address_text(deliver.source_addr_ton, &deliver.source_addr);
    let to = address_text(deliver.dest_addr_ton, &deliver.destination_addr);
    Ok(short(from, to, deliver.esm_class, deliver.data_coding, deliver.short_message().as_ref()))
}

/// The text of a receipt, as most centres write it.
pub(crate) fn receipt_text(id: &str, delivered: bool) -> String {
    let (count, state) = if delivered { ("001", "DELIVRD") } else { ("000", "UNDELIV") };
    format!(
        "id:{id} sub:001 dlvrd:{count} submit date:2601010000 done date:2601010000 stat:{state} err:000 text:"
    )
}

fn parse_receipt(text: &str) -> Option<Receipt> {
    let field = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name));
    let (id, state) = (field("id:")?, field("stat:")?);
    let is_final = !matches!(state, "ENROUTE" | "ACCEPTD" | "UNKNOWN");
    Some(Receipt { id: id.to_owned(), delivered: state == "DELIVRD", is_final })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_read_as_written() {
        let receipt = parse_receipt(&receipt_text("17", true)).expect("a receipt");
        assert_eq!(receipt, Receipt { id: "17".into(), delivered: true, is_final: true });
        assert!(!parse_receipt(&receipt_text("17", false)).expect("a receipt").delivered);
        assert!(!parse_receipt("id:1 stat:ENROUTE").expect("a receipt").is_final);
        assert_eq!(parse_receipt("hello"), None);
    }

    #[test]
    fn a_part_survives_submit_and_deliver() {
        let part = Some((9, 2, 1));
        let submitted =
            read_submit(&submit("+15550001", "+14155550101", Encoding::Ucs2, part, &[0x4f, 0x60]));
        assert_eq!((submitted.from.as_str(), submitted.to.as_str()), ("+15550001", "+14155550101"));
        assert_eq!((submitted.part, submitted.octets.as_slice()), (part, &[0x4f, 0x60][..]));
        assert_eq!(read_deliver(&deliver(&submitted, false)), Ok(submitted));
        let letters = read_submit(&submit("Dialtone", "+14155550101", Encoding::Gsm7, None, b"x"));
        assert_eq!(letters.from, "Dialtone");
    }
}
