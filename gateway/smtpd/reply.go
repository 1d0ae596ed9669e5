package smtpd

import (
	"strconv"

	"postern/gateway/mail"
)

// Replies that the server gives by itself.
var (
	replyTooMany     = mail.Reply{Code: 421, Enhanced: "4.3.2", Text: "too many connections, try again later"}
	replyShutdown    = mail.Reply{Code: 421, Enhanced: "4.3.2", Text: "shutting down, try again later"}
	replySilent      = mail.Reply{Code: 421, Enhanced: "4.4.2", Text: "nothing heard for too long"}
	replyFault       = mail.Reply{Code: 421, Enhanced: "4.3.0", Text: "internal error, try again later"}
	replyLocalError  = mail.Reply{Code: 451, Enhanced: "4.3.0", Text: "internal error, try again later"}
	replyEarly       = mail.Reply{Code: 554, Enhanced: "5.5.0", Text: "protocol synchronisation error: you sent before it was your turn"}
	replyNewline     = mail.Reply{Code: 500, Enhanced: "5.5.2", Text: "a command ends at CR LF and holds no other CR or LF"}
	replyLine        = mail.Reply{Code: 500, Enhanced: "5.5.2", Text: "command line too long"}
	replyControl     = mail.Reply{Code: 500, Enhanced: "5.5.2", Text: "control or 8-bit character in command"}
	replyUnknown     = mail.Reply{Code: 500, Enhanced: "5.5.2", Text: "command not known"}
	replyNotOffered  = mail.Reply{Code: 502, Enhanced: "5.5.1", Text: "command not offered"}
	replyNoBDAT      = mail.Reply{Code: 502, Enhanced: "5.5.1", Text: "CHUNKING is not offered"}
	replyNoArgument  = mail.Reply{Code: 501, Enhanced: "5.5.4", Text: "this command takes no argument"}
	replyArgument    = mail.Reply{Code: 501, Enhanced: "5.5.4", Text: "argument missing"}
	replyTLSOn       = mail.Reply{Code: 503, Enhanced: "5.5.1", Text: "TLS is on already"}
	replyHelloFirst  = mail.Reply{Code: 503, Enhanced: "5.5.1", Text: "say EHLO first"}
	replyHello       = mail.Reply{Code: 501, Enhanced: "5.5.4", Text: "a host name or an address literal, please"}
	replyNested      = mail.Reply{Code: 503, Enhanced: "5.5.1", Text: "a transaction is open already"}
	replyMailFirst   = mail.Reply{Code: 503, Enhanced: "5.5.1", Text: "say MAIL first"}
	replyRcptFirst   = mail.Reply{Code: 503, Enhanced: "5.5.1", Text: "say RCPT first"}
	replyNoRcpt      = mail.Reply{Code: 554, Enhanced: "5.5.1", Text: "no valid recipients"}
	replyBadFrom     = mail.Reply{Code: 501, Enhanced: "5.1.7", Text: "malformed reverse-path"}
	replyBadTo       = mail.Reply{Code: 501, Enhanced: "5.1.3", Text: "malformed forward-path"}
	replyUTF8        = mail.Reply{Code: 553, Enhanced: "5.6.7", Text: "a non-ASCII address needs SMTPUTF8"}
	replyParameter   = mail.Reply{Code: 555, Enhanced: "5.5.4", Text: "parameter not known"}
	replyValue       = mail.Reply{Code: 501, Enhanced: "5.5.4", Text: "malformed or repeated parameter"}
	replyTooBig      = mail.Reply{Code: 552, Enhanced: "5.3.4", Text: "message too big"}
	replyBareNewline = mail.Reply{Code: 550, Enhanced: "5.6.0", Text: "bare CR, bare LF or NUL in the message"}
	replyBadCommands = mail.Reply{Code: 421, Enhanced: "4.7.0", Text: "too many bad commands"}
	replyNoops       = mail.Reply{Code: 421, Enhanced: "4.7.0", Text: "too many commands without a message"}
	replyRefusals    = mail.Reply{Code: 421, Enhanced: "4.7.0", Text: "too many refused recipients"}
	replyOK          = mail.Reply{Code: 250, Enhanced: "2.0.0", Text: "OK"}
	replyHelp        = mail.Reply{Code: 214, Enhanced: "2.0.0", Text: "EHLO HELO STARTTLS MAIL RCPT DATA RSET NOOP VRFY HELP QUIT"}
	replyVRFY        = mail.Reply{Code: 252, Enhanced: "2.0.0", Text: "send mail and see"}
	replyBye         = mail.Reply{Code: 221, Enhanced: "2.0.0", Text: "bye"}
	replyGoTLS       = mail.Reply{Code: 220, Enhanced: "2.0.0", Text: "go ahead"}
	replyGoData      = mail.Reply{Code: 354, Text: "end with <CR><LF>.<CR><LF>"}
)

// appendReply writes r as one line.
func appendReply(b []byte, r mail.Reply) []byte {
	text := r.Text
	if r.Enhanced != "" {
		text = r.Enhanced + " " + text
	}
	return appendReplyLine(b, r.Code, ' ', text)
}

// appendReplyLine writes one line of a reply: sep is '-' where more follow
// (RFC 5321, section 4.2.1). What is not printable ASCII becomes '?', so that no
// text, whoever wrote it, can become a reply of its own.
func appendReplyLine(b []byte, code int, sep byte, text string) []byte {
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(b, sep)
	if room := maxReply - len("250 \r\n"); len(text) > room {
		text = text[:room]
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c < ' ' || c > '~' {
			c = '?'
		}
		b = append(b, c)
	}
	return append(b, crlf...)
}
