//! SMPP 3.4 PDUs of ours, and what we read in those of others.

use rusmpp::CommandStatus;
use rusmpp::pdus::{BindTransceiver, DeliverSm, SubmitSm};
use rusmpp::tlvs::{Tlv, TlvValue};
use rusmpp::types::{COctetString, OctetString};
use rusmpp::values::{
    DataCoding, EsmClass, GsmFeatures, InterfaceVersion, MessageState, MessageType, Npi, RegisteredDelivery,
    Ton,
};

use crate::segment::{Encoding, Place, header, split_header};

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
    pub(crate) part: Option<Place>,
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
        // Some operators write the plus as well.
        Ton::International => format!("+{}", address.as_str().trim_start_matches('+')),
        _ => address.as_str().to_owned(),
    }
}

fn coding(encoding: Encoding) -> DataCoding {
    match encoding {
        Encoding::Gsm7 => DataCoding::McSpecific,
        Encoding::Ucs2 => DataCoding::Ucs2,
    }
}

/// Octets in one of the two encodings that we read: Latin-1 and ASCII are the first 256 of UCS-2, everything else is
/// taken for the default alphabet.
fn readable(coding: DataCoding, octets: &[u8]) -> (Encoding, Vec<u8>) {
    match coding {
        DataCoding::Ucs2 => (Encoding::Ucs2, octets.to_vec()),
        DataCoding::Latin1 | DataCoding::Ia5 => {
            (Encoding::Ucs2, octets.iter().flat_map(|octet| [0, *octet]).collect())
        }
        _ => (Encoding::Gsm7, octets.to_vec()),
    }
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
    part: Option<Place>,
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

fn content(part: Option<Place>, octets: &[u8]) -> (EsmClass, OctetString<0, 255>) {
    let mut class = EsmClass::default();
    let octets = match part {
        Some(place) => {
            class.gsm_features = GsmFeatures::UdhiIndicator;
            [&header(place)[..], octets].concat()
        }
        None => octets.to_vec(),
    };
    (class, OctetString::from_vec(octets).unwrap_or_default())
}

/// The octets of a message: those of the parameter `message_payload` if it is there.
fn payload<'a>(short_message: &'a OctetString<0, 255>, tlvs: &'a [Tlv]) -> &'a [u8] {
    let payload = tlvs.iter().find_map(|tlv| match tlv.value()? {
        TlvValue::MessagePayload(payload) => Some(payload.value.as_ref()),
        _ => None,
    });
    payload.unwrap_or(short_message.as_ref())
}

/// A part's place, where the parameters `sar_…` say it instead of a header.
fn sar(tlvs: &[Tlv]) -> Option<Place> {
    let (mut reference, mut total, mut place) = (None, None, None);
    for value in tlvs.iter().filter_map(Tlv::value) {
        match value {
            TlvValue::SarMsgRefNum(value) => reference = Some(*value),
            TlvValue::SarTotalSegments(value) => total = Some(*value),
            TlvValue::SarSegmentSeqnum(value) => place = Some(*value),
            _ => {}
        }
    }
    Some((reference?, total?, place?)).filter(|(_, total, place)| (1..=*total).contains(place))
}

fn short(
    from: String,
    to: String,
    class: EsmClass,
    coding: DataCoding,
    octets: &[u8],
    tlvs: &[Tlv],
) -> Short {
    let (part, octets) = match class.gsm_features {
        GsmFeatures::UdhiIndicator | GsmFeatures::SetUdhiAndReplyPath => split_header(octets),
        _ => (sar(tlvs), octets),
    };
    let (encoding, octets) = readable(coding, octets);
    Short { from, to, encoding, part, octets }
}

/// What an MT message carries, as the centre reads it.
pub(crate) fn read_submit(submit: &SubmitSm) -> Short {
    let from = address_text(submit.source_addr_ton, &submit.source_addr);
    let to = address_text(submit.dest_addr_ton, &submit.destination_addr);
    let octets = payload(submit.short_message(), submit.tlvs());
    short(from, to, submit.esm_class, submit.data_coding, octets, submit.tlvs())
}

/// What an MO message carries: a part of a text, or a receipt.
pub(crate) fn read_deliver(deliver: &DeliverSm) -> Result<Short, Option<Receipt>> {
    let octets = payload(deliver.short_message(), deliver.tlvs());
    match deliver.esm_class.message_type {
        MessageType::ShortMessageContainsMCDeliveryReceipt
        | MessageType::ShortMessageContainsIntermediateDeliveryNotification => {
            return Err(read_receipt(&String::from_utf8_lossy(octets), deliver.tlvs()));
        }
        _ => {}
    }
    let from = address_text(deliver.source_addr_ton, &deliver.source_addr);
    let to = address_text(deliver.dest_addr_ton, &deliver.destination_addr);
    Ok(short(from, to, deliver.esm_class, deliver.data_coding, octets, deliver.tlvs()))
}

/// The text of a receipt, as most centres write it.
pub(crate) fn receipt_text(id: &str, delivered: bool) -> String {
    let (count, state) = if delivered { ("001", "DELIVRD") } else { ("000", "UNDELIV") };
    format!(
        "id:{id} sub:001 dlvrd:{count} submit date:2601010000 done date:2601010000 stat:{state} err:000 text:"
    )
}

/// A receipt: by its parameters where it has them, else by its text.
fn read_receipt(text: &str, tlvs: &[Tlv]) -> Option<Receipt> {
    let field = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name));
    let (mut id, mut state) = (field("id:").map(str::to_owned), field("stat:"));
    for value in tlvs.iter().filter_map(Tlv::value) {
        match value {
            TlvValue::ReceiptedMessageId(given) => id = Some(given.as_str().to_owned()),
            TlvValue::MessageState(given) => state = Some(state_text(*given)),
            _ => {}
        }
    }
    let state = state?;
    let is_final = !matches!(state, "SCHEDULED" | "ENROUTE" | "ACCEPTD" | "UNKNOWN");
    Some(Receipt { id: id?, delivered: state == "DELIVRD", is_final })
}

/// A state as texts of receipts write it.
fn state_text(state: MessageState) -> &'static str {
    match state {
        MessageState::Delivered => "DELIVRD",
        MessageState::Scheduled | MessageState::Enroute => "ENROUTE",
        MessageState::Accepted => "ACCEPTD",
        MessageState::Expired => "EXPIRED",
        MessageState::Deleted => "DELETED",
        MessageState::Undeliverable => "UNDELIV",
        MessageState::Rejected => "REJECTD",
        _ => "UNKNOWN",
    }
}

/// A status by its name in SMPP 3.4, such as `ESME_RINVDSTADR`.
pub(crate) fn status_name(status: CommandStatus) -> String {
    match status {
        CommandStatus::Other(code) => format!("ESME_{code:#010X}"),
        known => format!("{known:?}").to_uppercase().replacen("ESME", "ESME_", 1),
    }
}

#[cfg(test)]
mod tests {
    use rusmpp::types::AnyOctetString;

    use super::*;
    use crate::segment::text;

    fn of_text(text: &str) -> Option<Receipt> {
        read_receipt(text, &[])
    }

    #[test]
    fn receipts_are_read_as_written() {
        let receipt = of_text(&receipt_text("17", true)).expect("a receipt");
        assert_eq!(receipt, Receipt { id: "17".into(), delivered: true, is_final: true });
        assert!(!of_text(&receipt_text("17", false)).expect("a receipt").delivered);
        assert!(!of_text("id:1 stat:ENROUTE").expect("a receipt").is_final);
        assert_eq!(of_text("hello"), None);
    }

    #[test]
    fn a_receipts_parameters_go_before_its_text() {
        let id = COctetString::from_string("17".to_owned()).expect("short");
        let tlvs = [TlvValue::ReceiptedMessageId(id), TlvValue::MessageState(MessageState::Rejected)];
        let receipt = read_receipt("id:8 stat:DELIVRD", &tlvs.map(Tlv::new));
        assert_eq!(receipt, Some(Receipt { id: "17".into(), delivered: false, is_final: true }));
    }

    #[test]
    fn statuses_have_the_names_of_the_specification() {
        assert_eq!(status_name(CommandStatus::EsmeRinvdstadr), "ESME_RINVDSTADR");
        assert_eq!(status_name(CommandStatus::Other(0x400)), "ESME_0x00000400");
    }

    #[test]
    fn latin_1_long_payloads_and_sar_parameters_are_read() {
        let payload = |octets: &[u8]| TlvValue::MessagePayload(AnyOctetString::from_slice(octets).into());
        let tlvs: Vec<Tlv> = [
            payload(&[b'@', 0xe9]),
            TlvValue::SarMsgRefNum(700),
            TlvValue::SarTotalSegments(2),
            TlvValue::SarSegmentSeqnum(1),
        ]
        .map(Tlv::new)
        .to_vec();
        let empty = OctetString::empty();
        let octets = super::payload(&empty, &tlvs);
        let read = short("a".into(), "b".into(), EsmClass::default(), DataCoding::Latin1, octets, &tlvs);
        assert_eq!(read.part, Some((700, 2, 1)));
        assert_eq!(text(read.encoding, &read.octets), "@é");
    }

    #[test]
    fn an_international_number_has_one_plus() {
        assert_eq!(address_text(Ton::International, &c_octets("+1555")), "+1555");
        assert_eq!(address_text(Ton::Unknown, &c_octets("1555")), "1555");
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
