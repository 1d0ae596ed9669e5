package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"postern/gateway/health"
	"postern/gateway/mail"
)

// Client is the Office of the gateway that listens on a socket.
type Client struct{ http *http.Client }

var _ Office = (*Client)(nil)

// Dial finds the gateway behind the socket at path; the error says that none
// runs there.
func Dial(ctx context.Context, path string) (*Client, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	conn, err := dial(ctx, "", "")
	if err != nil {
		return nil, err
	}
	_ = conn.Close()
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}, nil
}

// Queue implements Office.
func (c *Client) Queue(ctx context.Context) (items []Queued, err error) {
	err = c.call(ctx, "GET", "/queue", nil, &items)
	return items, err
}

// RetryQueued implements Office.
func (c *Client) RetryQueued(ctx context.Context, id string) error {
	return c.call(ctx, "POST", "/queue/retry?id="+url.QueryEscape(id), nil, nil)
}

// DeleteQueued implements Office.
func (c *Client) DeleteQueued(ctx context.Context, id string) error {
	return c.call(ctx, "DELETE", "/queue/"+url.PathEscape(id), nil, nil)
}

// Kept implements Office.
func (c *Client) Kept(ctx context.Context, q KeptQuery) (items []Kept, err error) {
	err = c.call(ctx, "POST", "/quarantine", q, &items)
	return items, err
}

// KeptOne implements Office.
func (c *Client) KeptOne(ctx context.Context, id string) (item Kept, err error) {
	err = c.call(ctx, "GET", "/quarantine/"+url.PathEscape(id), nil, &item)
	return item, err
}

// KeptContent implements Office.
func (c *Client) KeptContent(ctx context.Context, id string, w io.Writer) error {
	return c.stream(ctx, "/quarantine/"+url.PathEscape(id)+"/content", w)
}

// ReleaseKept implements Office.
func (c *Client) ReleaseKept(ctx context.Context, id string, how Release) (done []mail.Delivery, err error) {
	err = c.call(ctx, "POST", "/quarantine/"+url.PathEscape(id)+"/release", how, &done)
	return done, err
}

// DeleteKept implements Office.
func (c *Client) DeleteKept(ctx context.Context, id string) error {
	return c.call(ctx, "DELETE", "/quarantine/"+url.PathEscape(id), nil, nil)
}

// Track implements Office.
func (c *Client) Track(ctx context.Context, query string) (records []mail.Record, err error) {
	err = c.call(ctx, "GET", "/track?query="+url.QueryEscape(query), nil, &records)
	return records, err
}

// Health implements Office.
func (c *Client) Health(ctx context.Context) (facts []health.Fact, err error) {
	err = c.call(ctx, "GET", "/health", nil, &facts)
	return facts, err
}

// Backup implements Office.
func (c *Client) Backup(ctx context.Context, w io.Writer) error { return c.stream(ctx, "/backup", w) }

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	response, err := c.do(ctx, method, path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var p problem
		if err := json.NewDecoder(response.Body).Decode(&p); err != nil {
			return fmt.Errorf("control socket: %s", response.Status)
		}
		return p.err()
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(out)
}

func (c *Client) stream(ctx context.Context, path string, w io.Writer) error {
	response, err := c.do(ctx, "GET", path, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(w, response.Body); err != nil {
		return err
	}
	text := response.Trailer.Get(failed)
	if text == "" {
		return nil
	}
	var p problem
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return errors.New(text)
	}
	return p.err()
}

func (c *Client) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://postern"+path, body)
	if err != nil {
		return nil, err
	}
	return c.http.Do(request)
}

// err is the error with its kind, as it was on the other side.
func (p problem) err() error {
	if known, has := kinds[p.Kind]; has {
		return remoteError{p.Error, known}
	}
	return errors.New(p.Error)
}

// remoteError is an error of a kind, in the other side's words.
type remoteError struct {
	text string
	kind error
}

// Error implements error.
func (e remoteError) Error() string { return e.text }

// Unwrap makes errors.Is work.
func (e remoteError) Unwrap() error { return e.kind }
