//! The rules, each with its section, its status and its word.
//!
//! Invariant: a word never changes its meaning; logs and the corpus of the tests name rules by it.

use std::fmt;

/// Why a request head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    // The bytes of lines.
    /// A line ends with a line feed alone, which not all readers take for an end.
    BareLineFeed,
    /// A carriage return that ends no line.
    BareCarriageReturn,
    /// A byte of value zero.
    Nul,
    /// A control character.
    Control,
    /// The head does not end with an empty line.
    Incomplete,

    // The request line.
    /// The first line is none of HTTP/1.
    NotHttp,
    /// Anything but one space between the parts of the request line.
    RequestLineSpaces,
    /// A method that is no token.
    MethodGrammar,
    /// A method longer than [`MAX_METHOD_BYTES`](super::MAX_METHOD_BYTES).
    MethodLength,
    /// `CONNECT`: the edge is no forward proxy.
    MethodConnect,
    /// A request line without a version, as in HTTP/0.9.
    VersionMissing,
    /// A version that is none.
    VersionGrammar,
    /// A version that is not spoken here.
    VersionUnsupported,
    /// A target longer than [`MAX_TARGET_BYTES`](super::MAX_TARGET_BYTES).
    TargetLength,
    /// A target with bytes that no URI has.
    TargetBytes,
    /// A target with a fragment.
    TargetFragment,
    /// A target of none of the four forms, or of one that the method does not have.
    TargetForm,
    /// `*` for a method other than `OPTIONS`.
    TargetAsterisk,
    /// An absolute URI of a scheme that is not served here.
    TargetScheme,
    /// An absolute URI without a host, or with one that is none.
    TargetAuthority,
    /// An absolute URI with a user's name.
    TargetUserinfo,
    /// An absolute URI for another host than `Host` names.
    TargetHostDiffers,

    // Names and values of fields.
    /// A line that goes on with the value of the line before.
    ObsoleteFold,
    /// White space before the first field.
    LeadingSpace,
    /// White space between a name and its colon.
    SpaceBeforeColon,
    /// A field without a name.
    NameEmpty,
    /// A name that is no token.
    NameGrammar,
    /// A name longer than [`MAX_NAME_BYTES`](super::MAX_NAME_BYTES).
    NameLength,
    /// A line without a colon.
    ColonMissing,
    /// A pseudo-header field of HTTP/2 in a head of HTTP/1.
    PseudoField,
    /// A value longer than [`MAX_VALUE_BYTES`](super::MAX_VALUE_BYTES).
    ValueLength,
    /// More than [`MAX_FIELDS`](super::MAX_FIELDS) fields.
    FieldCount,
    /// More than [`MAX_COOKIE_FIELDS`](super::MAX_COOKIE_FIELDS) `Cookie` fields.
    CookieCount,
    /// A head longer than [`MAX_HEAD_BYTES`](super::MAX_HEAD_BYTES).
    HeadLength,

    // For whom the request is.
    /// No `Host` in HTTP/1.1.
    HostMissing,
    /// Several `Host` fields.
    HostRepeated,
    /// A `Host` that names nobody.
    HostEmpty,
    /// A `Host` with a user's name.
    HostUserinfo,
    /// Several hosts in one field.
    HostList,
    /// A `Host` that is no host.
    HostGrammar,
    /// A `Host` whose port is none.
    HostPort,

    // Where the request ends.
    /// Several `Content-Length` fields, equal ones included.
    LengthRepeated,
    /// Several lengths in one field, equal ones included.
    LengthList,
    /// A `Content-Length` that is no row of digits.
    LengthGrammar,
    /// A `Content-Length` that no counter holds.
    LengthTooLarge,
    /// `Content-Length` beside `Transfer-Encoding`.
    LengthWithEncoding,
    /// Several `Transfer-Encoding` fields, or `chunked` twice.
    EncodingRepeated,
    /// A coding before `chunked` that is not implemented.
    EncodingUnknown,
    /// A last coding other than `chunked`: nobody knows where the content ends.
    EncodingNotChunked,
    /// A `Transfer-Encoding` that is no list of codings.
    EncodingGrammar,
    /// `Transfer-Encoding` in HTTP/1.0, which has none.
    EncodingInOldVersion,

    // What the next hop would miss or misread.
    /// `Connection` names a field that is for the target: to strip it would change the request.
    ConnectionNames,
    /// An expectation other than `100-continue`.
    Expectation,

    // HTTP/2.
    /// A `:path` that does not begin with `/`.
    PathForm,
    /// A `:scheme` that is not served here.
    Scheme,
    /// Neither `:authority` nor `Host`.
    AuthorityMissing,
    /// `:authority` and `Host` differ.
    AuthorityDiffers,
    /// A value that begins or ends with white space.
    ValueSpace,
    /// A field that is for one connection of HTTP/1.
    ConnectionField,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 59] = [
        Self::BareLineFeed,
        Self::BareCarriageReturn,
        Self::Nul,
        Self::Control,
        Self::Incomplete,
        Self::NotHttp,
        Self::RequestLineSpaces,
        Self::MethodGrammar,
        Self::MethodLength,
        Self::MethodConnect,
        Self::VersionMissing,
        Self::VersionGrammar,
        Self::VersionUnsupported,
        Self::TargetLength,
        Self::TargetBytes,
        Self::TargetFragment,
        Self::TargetForm,
        Self::TargetAsterisk,
        Self::TargetScheme,
        Self::TargetAuthority,
        Self::TargetUserinfo,
        Self::TargetHostDiffers,
        Self::ObsoleteFold,
        Self::LeadingSpace,
        Self::SpaceBeforeColon,
        Self::NameEmpty,
        Self::NameGrammar,
        Self::NameLength,
        Self::ColonMissing,
        Self::PseudoField,
        Self::ValueLength,
        Self::FieldCount,
        Self::CookieCount,
        Self::HeadLength,
        Self::HostMissing,
        Self::HostRepeated,
        Self::HostEmpty,
        Self::HostUserinfo,
        Self::HostList,
        Self::HostGrammar,
        Self::HostPort,
        Self::LengthRepeated,
        Self::LengthList,
        Self::LengthGrammar,
        Self::LengthTooLarge,
        Self::LengthWithEncoding,
        Self::EncodingRepeated,
        Self::EncodingUnknown,
        Self::EncodingNotChunked,
        Self::EncodingGrammar,
        Self::EncodingInOldVersion,
        Self::ConnectionNames,
        Self::Expectation,
        Self::PathForm,
        Self::Scheme,
        Self::AuthorityMissing,
        Self::AuthorityDiffers,
        Self::ValueSpace,
        Self::ConnectionField,
    ];

    /// Status, word, where the rule stands, and what the client is told.
    fn parts(self) -> (u16, &'static str, &'static str, &'static str) {
        match self {
            Self::BareLineFeed => (400, "bare_lf", "RFC 9112 §2.2", "A line of the head does not end with CRLF."),
            Self::BareCarriageReturn => {
                (400, "bare_cr", "RFC 9112 §2.2", "The head has a carriage return that ends no line.")
            }
            Self::Nul => (400, "nul", "RFC 9110 §5.5", "The head has a NUL byte."),
            Self::Control => (400, "control", "RFC 9110 §5.5", "The head has a control character."),
            Self::Incomplete => (400, "incomplete", "RFC 9112 §2.1", "The head does not end with an empty line."),
            Self::NotHttp => (400, "not_http", "RFC 9112 §2.1", "This is not HTTP/1."),
            Self::RequestLineSpaces => {
                (400, "request_line_spaces", "RFC 9112 §3", "The request line is not METHOD SP TARGET SP VERSION.")
            }
            Self::MethodGrammar => (400, "method_grammar", "RFC 9110 §9.1", "The method is no token."),
            Self::MethodLength => (501, "method_length", "RFC 9112 §3", "The method is too long."),
            Self::MethodConnect => (501, "method_connect", "RFC 9110 §9.3.6", "This is no forward proxy."),
            Self::VersionMissing => (400, "version_missing", "RFC 9112 §3", "The request line has no version."),
            Self::VersionGrammar => (400, "version_grammar", "RFC 9112 §2.3", "The version is none of HTTP."),
            Self::VersionUnsupported => {
                (505, "version_unsupported", "RFC 9110 §15.6.6", "HTTP/1.1 and HTTP/1.0 are spoken here.")
            }
            Self::TargetLength => (414, "target_length", "RFC 9112 §3", "The address is too long."),
            Self::TargetBytes => (400, "target_bytes", "RFC 9112 §3.2", "The address has bytes that no URI has."),
            Self::TargetFragment => (400, "target_fragment", "RFC 9112 §3.2", "The address has a fragment."),
            Self::TargetForm => (400, "target_form", "RFC 9112 §3.2", "The address does not begin with a slash."),
            Self::TargetAsterisk => (400, "target_asterisk", "RFC 9112 §3.2.4", "Only OPTIONS may ask for *."),
            Self::TargetScheme => (400, "target_scheme", "RFC 9112 §3.2.2", "Only http and https are served here."),
            Self::TargetAuthority => (400, "target_authority", "RFC 9110 §4.2.1", "The address has no valid host."),
            Self::TargetUserinfo => (400, "target_userinfo", "RFC 9110 §4.2.4", "The address has a user's name."),
            Self::TargetHostDiffers => {
                (400, "target_host_differs", "RFC 9112 §3.2.2", "The address and Host name different hosts.")
            }
            Self::ObsoleteFold => (400, "obs_fold", "RFC 9112 §5.2", "A field goes over several lines."),
            Self::LeadingSpace => (400, "leading_space", "RFC 9112 §2.2", "White space stands before the first field."),
            Self::SpaceBeforeColon => {
                (400, "space_before_colon", "RFC 9112 §5.1", "White space stands before a field's colon.")
            }
            Self::NameEmpty => (400, "name_empty", "RFC 9110 §5.1", "A field has no name."),
            Self::NameGrammar => (400, "name_grammar", "RFC 9110 §5.1", "A field's name is no token."),
            Self::NameLength => (431, "name_length", "RFC 6585 §5", "A field's name is too long."),
            Self::ColonMissing => (400, "colon_missing", "RFC 9112 §5", "A field has no colon."),
            Self::PseudoField => (400, "pseudo_field", "RFC 9113 §8.3", "A field's name begins with a colon."),
            Self::ValueLength => (431, "value_length", "RFC 6585 §5", "A field's value is too long."),
            Self::FieldCount => (431, "field_count", "RFC 6585 §5", "The head has too many fields."),
            Self::CookieCount => (431, "cookie_count", "RFC 6585 §5", "The head has too many Cookie fields."),
            Self::HeadLength => (431, "head_length", "RFC 6585 §5", "The head is too long."),
            Self::HostMissing => (400, "host_missing", "RFC 9112 §3.2", "The request has no Host field."),
            Self::HostRepeated => (400, "host_repeated", "RFC 9112 §3.2", "The request has several Host fields."),
            Self::HostEmpty => (400, "host_empty", "RFC 9110 §4.2.1", "The Host field is empty."),
            Self::HostUserinfo => (400, "host_userinfo", "RFC 9110 §7.2", "The Host field has a user's name."),
            Self::HostList => (400, "host_list", "RFC 9112 §3.2", "The Host field names several hosts."),
            Self::HostGrammar => (400, "host_grammar", "RFC 9110 §7.2", "The Host field is no host."),
            Self::HostPort => (400, "host_port", "RFC 9110 §7.2", "The port in the Host field is none."),
            Self::LengthRepeated => {
                (400, "length_repeated", "RFC 9110 §8.6", "The request has several Content-Length fields.")
            }
            Self::LengthList => (400, "length_list", "RFC 9110 §8.6", "The Content-Length field has several lengths."),
            Self::LengthGrammar => (400, "length_grammar", "RFC 9110 §8.6", "The Content-Length field is no number."),
            Self::LengthTooLarge => (413, "length_too_large", "RFC 9110 §15.5.14", "The content is too long."),
            Self::LengthWithEncoding => (
                400,
                "length_with_encoding",
                "RFC 9112 §6.1",
                "The request has both Content-Length and Transfer-Encoding.",
            ),
            Self::EncodingRepeated => {
                (400, "encoding_repeated", "RFC 9112 §6.1", "The request has chunked or Transfer-Encoding twice.")
            }
            Self::EncodingUnknown => {
                (501, "encoding_unknown", "RFC 9112 §6.1", "Of transfer codings, only chunked is known here.")
            }
            Self::EncodingNotChunked => {
                (400, "encoding_not_chunked", "RFC 9112 §6.3", "The last transfer coding is not chunked.")
            }
            Self::EncodingGrammar => {
                (400, "encoding_grammar", "RFC 9112 §6.1", "The Transfer-Encoding field is no list of codings.")
            }
            Self::EncodingInOldVersion => {
                (400, "encoding_in_old_version", "RFC 9112 §6.1", "HTTP/1.0 has no transfer codings.")
            }
            Self::ConnectionNames => (
                400,
                "connection_names",
                "RFC 9110 §7.6.1",
                "The Connection field names a field that is not for one connection.",
            ),
            Self::Expectation => (417, "expectation", "RFC 9110 §10.1.1", "Only 100-continue can be expected here."),
            Self::PathForm => (400, "path_form", "RFC 9113 §8.3.1", "The path does not begin with a slash."),
            Self::Scheme => (400, "scheme", "RFC 9113 §8.3.1", "Only http and https are served here."),
            Self::AuthorityMissing => {
                (400, "authority_missing", "RFC 9113 §8.3.1", "The request has neither :authority nor Host.")
            }
            Self::AuthorityDiffers => {
                (400, "authority_differs", "RFC 9113 §8.3.1", "The :authority and Host name different hosts.")
            }
            Self::ValueSpace => {
                (400, "value_space", "RFC 9113 §8.2.1", "A field's value begins or ends with white space.")
            }
            Self::ConnectionField => {
                (400, "connection_field", "RFC 9113 §8.2.2", "A field is for one connection of HTTP/1.")
            }
        }
    }

    /// The status of the answer.
    pub fn status(self) -> u16 {
        self.parts().0
    }

    /// The word in logs.
    pub fn as_str(self) -> &'static str {
        self.parts().1
    }

    /// Where the rule stands.
    pub fn section(self) -> &'static str {
        self.parts().2
    }

    /// What the client is told.
    pub(crate) fn detail(self) -> &'static str {
        self.parts().3
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_rule_has_a_word_of_its_own_and_a_section() {
        let words: HashSet<_> = Rule::ALL.into_iter().map(Rule::as_str).collect();
        assert_eq!(words.len(), Rule::ALL.len());
        for rule in Rule::ALL {
            assert!(rule.section().starts_with("RFC ") && rule.section().contains('§'), "{rule}");
            assert!((400..=505).contains(&rule.status()), "{rule}");
            assert!(rule.detail().bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'%'), "{rule}");
        }
    }
}
