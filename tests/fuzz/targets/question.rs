//! Any bytes as a message to the sandbox's name server: read as one question with a name that can be
//! put on record, refused with an answer, or not answered.

#![no_main]

use libfuzzer_sys::fuzz_target;
use skillsandbox::dns::question::{QUESTION_BYTES_MAX, Unanswerable, read};

/// A name of 255 bytes, each escaped.
const NAME_MAX: usize = 4 * 255;

fuzz_target!(|bytes: &[u8]| {
    match read(bytes) {
        Ok(question) => {
            assert!(bytes.len() <= QUESTION_BYTES_MAX);
            let name = question.name();
            assert!(name.len() <= NAME_MAX, "{name}");
            assert!(name.is_ascii() && !name.bytes().any(|byte| byte.is_ascii_control()), "{name}");
            assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name}");
            assert!(!question.record_type().to_string().is_empty());
        }
        Err(Unanswerable::Wrong(message)) => {
            let answer = message.to_vec().expect("an answer can be written");
            assert!(answer.len() <= bytes.len(), "an answer that is longer than what it answers");
            // The same message, as an answer: not to be answered again.
            assert!(matches!(read(&answer), Err(Unanswerable::Silence)));
        }
        Err(Unanswerable::Silence) => {}
    }
});
