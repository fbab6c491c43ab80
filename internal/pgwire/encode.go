package pgwire

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Transaction states, as ReadyForQuery reports them.
const (
	TxIdle   byte = 'I'
	TxOpen   byte = 'T'
	TxFailed byte = 'E'
)

// must returns dst, and panics on an error of an encoder. Encoders fail only for messages beyond 1 GB, and pgagroal
// builds none.
func must(dst []byte, err error) []byte {
	if err != nil {
		panic(fmt.Sprintf("pgwire: encoding a message of our own: %v", err))
	}
	return dst
}

// AppendReadyForQuery appends a ReadyForQuery with one of TxIdle, TxOpen and TxFailed.
func AppendReadyForQuery(dst []byte, status byte) []byte {
	return must((&pgproto3.ReadyForQuery{TxStatus: status}).Encode(dst))
}

// AppendParameterStatus appends a ParameterStatus.
func AppendParameterStatus(dst []byte, name, value string) []byte {
	return must((&pgproto3.ParameterStatus{Name: name, Value: value}).Encode(dst))
}

// AppendBackendKeyData appends a BackendKeyData; key has 4 bytes in protocol 3.0 and up to 256 in 3.2.
func AppendBackendKeyData(dst []byte, pid uint32, key []byte) []byte {
	return must((&pgproto3.BackendKeyData{ProcessID: pid, SecretKey: key}).Encode(dst))
}

// AppendNegotiateProtocolVersion appends the answer to a client that asked for a newer minor version or for
// unknown protocol options: the connection uses version 3.minor.
//
// The field is called "newest minor version", but PostgreSQL sends the major version in it, too, and clients depend
// on that.
func AppendNegotiateProtocolVersion(dst []byte, minor uint16, options []string) []byte {
	m := pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: 3<<16 | uint32(minor), UnrecognizedOptions: options}
	return must(m.Encode(dst))
}

// AppendAuthenticationOK appends an AuthenticationOk.
func AppendAuthenticationOK(dst []byte) []byte {
	return must((&pgproto3.AuthenticationOk{}).Encode(dst))
}

// AppendAuthenticationCleartext appends an AuthenticationCleartextPassword.
func AppendAuthenticationCleartext(dst []byte) []byte {
	return must((&pgproto3.AuthenticationCleartextPassword{}).Encode(dst))
}

// AppendAuthenticationMD5 appends an AuthenticationMD5Password.
func AppendAuthenticationMD5(dst []byte, salt [4]byte) []byte {
	return must((&pgproto3.AuthenticationMD5Password{Salt: salt}).Encode(dst))
}

// AppendAuthenticationSASL appends an AuthenticationSASL that offers the mechanisms in this order.
func AppendAuthenticationSASL(dst []byte, mechanisms ...string) []byte {
	return must((&pgproto3.AuthenticationSASL{AuthMechanisms: mechanisms}).Encode(dst))
}

// AppendAuthenticationSASLContinue appends an AuthenticationSASLContinue.
func AppendAuthenticationSASLContinue(dst, data []byte) []byte {
	return must((&pgproto3.AuthenticationSASLContinue{Data: data}).Encode(dst))
}

// AppendAuthenticationSASLFinal appends an AuthenticationSASLFinal.
func AppendAuthenticationSASLFinal(dst, data []byte) []byte {
	return must((&pgproto3.AuthenticationSASLFinal{Data: data}).Encode(dst))
}

// AppendPassword appends a PasswordMessage.
func AppendPassword(dst []byte, password string) []byte {
	return must((&pgproto3.PasswordMessage{Password: password}).Encode(dst))
}

// AppendSASLInitialResponse appends a SASLInitialResponse.
func AppendSASLInitialResponse(dst []byte, mechanism string, data []byte) []byte {
	return must((&pgproto3.SASLInitialResponse{AuthMechanism: mechanism, Data: data}).Encode(dst))
}

// AppendSASLResponse appends a SASLResponse.
func AppendSASLResponse(dst, data []byte) []byte {
	return must((&pgproto3.SASLResponse{Data: data}).Encode(dst))
}

// AppendQuery appends a Query; sql must hold no zero byte.
func AppendQuery(dst []byte, sql string) []byte {
	return must((&pgproto3.Query{String: sql}).Encode(dst))
}

// AppendTerminate appends a Terminate.
func AppendTerminate(dst []byte) []byte { return must((&pgproto3.Terminate{}).Encode(dst)) }

// AppendSSLRequest appends an SSLRequest.
func AppendSSLRequest(dst []byte) []byte { return must((&pgproto3.SSLRequest{}).Encode(dst)) }

// AppendCancelRequest appends a CancelRequest; key is that of the server's BackendKeyData, up to 256 bytes.
func AppendCancelRequest(dst []byte, pid uint32, key []byte) []byte {
	return must((&pgproto3.CancelRequest{ProcessID: pid, SecretKey: key}).Encode(dst))
}

// AppendStartup appends a StartupMessage of protocol 3.0 with params in this order.
//
// It doesn't use pgproto3, which keeps parameters in a map: equal parameters would not always give equal bytes.
func AppendStartup(dst []byte, params []Param) ([]byte, error) {
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, 0)
	dst = binary.BigEndian.AppendUint32(dst, pgproto3.ProtocolVersion30)
	for _, p := range params {
		if p.Name == "" || strings.Contains(p.Name, "\x00") || strings.Contains(p.Value, "\x00") {
			return dst[:start], fmt.Errorf("start-up parameter %q: empty name or zero byte", p.Name)
		}
		dst = append(append(dst, p.Name...), 0)
		dst = append(append(dst, p.Value...), 0)
	}
	dst = append(dst, 0)
	if len(dst)-start > maxStartupBody+4 {
		return dst[:start], fmt.Errorf("start-up parameters need %d bytes, servers accept %d", len(dst)-start, maxStartupBody+4)
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst, nil
}

// AppendMessage appends a message whose body is already encoded.
func AppendMessage(dst []byte, typ byte, body []byte) []byte {
	dst = append(dst, typ)
	dst = binary.BigEndian.AppendUint32(dst, uint32(4+len(body)))
	return append(dst, body...)
}
