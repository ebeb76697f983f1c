//! What a program in the sandbox asks, read from bytes that it may have made up.

use hickory_resolver::proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, RecordType},
};

/// Longest question, in bytes: what passes most networks in one piece, and far more than any question
/// takes (a name has 255 at most).
pub const QUESTION_BYTES_MAX: usize = 1232;
/// Bytes of the header (RFC 1035, section 4.1.1).
const HEADER: usize = 12;
/// What an answer over UDP may have where the question does not say (RFC 1035, section 4.2.1).
const UDP_BYTES: u16 = 512;

/// One question, in a message that holds nothing else.
#[derive(Clone, Debug)]
pub struct Question {
    id: u16,
    query: Query,
    recursion_desired: bool,
    /// What an answer over UDP may have, where the question says.
    payload: Option<u16>,
    name: String,
}

/// What cannot be answered.
#[derive(Clone, Debug)]
pub enum Unanswerable {
    /// Not a question at all: to answer could go on for ever.
    Silence,
    /// A question that is wrong; this is the answer.
    Wrong(Box<Message>),
}

/// Reads a message.
pub fn read(bytes: &[u8]) -> Result<Question, Unanswerable> {
    let (Some(header), true) = (
        bytes.first_chunk::<HEADER>(),
        bytes.len() <= QUESTION_BYTES_MAX,
    ) else {
        return Err(Unanswerable::Silence);
    };
    // The bit of a response (RFC 1035, section 4.1.1).
    if header[2] & 0x80 != 0 {
        return Err(Unanswerable::Silence);
    }
    let id = u16::from_be_bytes([header[0], header[1]]);
    let wrong = |op_code, code| {
        let message = Message::error_msg(id, op_code, code);
        Unanswerable::Wrong(Box::new(message))
    };
    let Ok(message) = Message::from_vec(bytes) else {
        return Err(wrong(OpCode::Query, ResponseCode::FormErr));
    };
    let metadata = &message.metadata;
    if metadata.op_code != OpCode::Query || metadata.message_type != MessageType::Query {
        return Err(wrong(metadata.op_code, ResponseCode::NotImp));
    }
    let [query] = message.queries.as_slice() else {
        return Err(wrong(OpCode::Query, ResponseCode::FormErr));
    };
    if !message.answers.is_empty() || !message.authorities.is_empty() {
        return Err(wrong(OpCode::Query, ResponseCode::FormErr));
    }
    let name = query.name().to_ascii().to_ascii_lowercase();
    Ok(Question {
        id,
        query: query.clone(),
        recursion_desired: metadata.recursion_desired,
        payload: message.edns.as_ref().map(Edns::max_payload),
        name: name.strip_suffix('.').unwrap_or(&name).to_owned(),
    })
}

impl Question {
    /// The name, in lower case and without the last dot. Bytes that no host's name has are escaped as
    /// in RFC 1035, section 5.1.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of the records that are asked for.
    #[must_use]
    pub fn record_type(&self) -> RecordType {
        self.query.query_type()
    }

    /// Whether it is a question about the internet.
    #[must_use]
    pub fn is_of_the_internet(&self) -> bool {
        self.query.query_class() == DNSClass::IN
    }

    /// Bytes that an answer over UDP may have.
    pub(super) fn udp_room(&self) -> usize {
        let room = self.payload.unwrap_or(UDP_BYTES).max(UDP_BYTES);
        usize::from(room).min(QUESTION_BYTES_MAX)
    }

    /// An answer without records.
    pub(super) fn answer(&self, code: ResponseCode) -> Message {
        let mut message = Message::response(self.id, OpCode::Query);
        message.add_query(self.query.clone());
        message.metadata.response_code = code;
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        if self.payload.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(u16::try_from(QUESTION_BYTES_MAX).unwrap_or(u16::MAX));
            message.set_edns(edns);
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;
    use proptest::prelude::*;

    use super::*;

    fn asked(name: &str) -> Message {
        let mut message = Message::query();
        let name = Name::from_ascii(name).unwrap();
        message.add_query(Query::query(name, RecordType::A));
        message
    }

    fn code(bytes: &[u8]) -> Option<ResponseCode> {
        match read(bytes) {
            Err(Unanswerable::Wrong(message)) => Some(message.metadata.response_code),
            _ => None,
        }
    }

    #[test]
    fn a_question_is_read_in_lower_case_and_repeated_as_it_was_asked() {
        let message = asked("Api.Example.COM.");
        let question = read(&message.to_vec().unwrap()).unwrap();
        assert_eq!(question.name(), "api.example.com");
        assert_eq!(question.record_type(), RecordType::A);
        let answer = question.answer(ResponseCode::NoError);
        assert_eq!(answer.metadata.id, message.metadata.id);
        assert_eq!(answer.queries[0].name().to_string(), "Api.Example.COM.");
        assert!(answer.edns.is_none());
    }

    #[test]
    fn an_answer_over_udp_is_never_longer_than_was_asked_for() {
        let room = |payload| {
            let mut message = asked("a.b.");
            if let Some(payload) = payload {
                let mut edns = Edns::new();
                edns.set_max_payload(payload);
                message.set_edns(edns);
            }
            read(&message.to_vec().unwrap()).unwrap().udp_room()
        };
        assert_eq!(room(None), 512);
        assert_eq!(room(Some(100)), 512);
        assert_eq!(room(Some(900)), 900);
        assert_eq!(room(Some(65_000)), QUESTION_BYTES_MAX);
    }

    #[test]
    fn what_is_no_question_is_not_answered_and_what_is_a_wrong_one_is_told_so() {
        assert!(matches!(read(b""), Err(Unanswerable::Silence)));
        assert!(matches!(read(&[0; 11]), Err(Unanswerable::Silence)));
        let response = Message::response(1, OpCode::Query).to_vec().unwrap();
        assert!(matches!(read(&response), Err(Unanswerable::Silence)));
        let long = vec![0; QUESTION_BYTES_MAX + 1];
        assert!(matches!(read(&long), Err(Unanswerable::Silence)));

        assert_eq!(code(&[0; 12]), Some(ResponseCode::FormErr), "no question");
        let mut two = asked("a.b.");
        two.add_query(two.queries[0].clone());
        let two = two.to_vec().unwrap();
        assert_eq!(code(&two), Some(ResponseCode::FormErr));
        let update = Message::new(1, MessageType::Query, OpCode::Update);
        let update = update.to_vec().unwrap();
        assert_eq!(code(&update), Some(ResponseCode::NotImp));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_question_that_is_changed_somewhere_is_read_or_refused(
            at in 0_usize..30, byte: u8,
        ) {
            let mut bytes = asked("api.example.com.").to_vec().unwrap();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let _ = read(&bytes);
        }
    }
}
