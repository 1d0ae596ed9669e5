package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"
)

// maxPath is the longest path that a socket can have on Linux (unix(7)), which
// would say no more of a longer one than "invalid argument".
const maxPath = 107

// Listen opens the socket at path for its owner only. A socket that a dead
// process left is replaced: the caller holds the state's lock, so nobody is
// behind it.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("control socket: %s is longer than the %d octets that a socket's path may have", path, maxPath)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Serve answers on l until ctx ends.
func Serve(ctx context.Context, l net.Listener, o Office, log *slog.Logger) error {
	s := &http.Server{Handler: handler(o), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// handler lists every request that there is.
func handler(o Office) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /queue", answer(func(r *http.Request) (any, error) { return o.Queue(r.Context()) }))
	mux.HandleFunc("POST /queue/retry", answer(func(r *http.Request) (any, error) {
		return nil, o.RetryQueued(r.Context(), r.FormValue("id"))
	}))
	mux.HandleFunc("DELETE /queue/{id}", answer(func(r *http.Request) (any, error) {
		return nil, o.DeleteQueued(r.Context(), r.PathValue("id"))
	}))
	mux.HandleFunc("POST /quarantine", answer(func(r *http.Request) (any, error) {
		var q KeptQuery
		if err := read(r, &q); err != nil {
			return nil, err
		}
		return o.Kept(r.Context(), q)
	}))
	mux.HandleFunc("GET /quarantine/{id}", answer(func(r *http.Request) (any, error) {
		return o.KeptOne(r.Context(), r.PathValue("id"))
	}))
	mux.HandleFunc("GET /quarantine/{id}/content", stream(func(r *http.Request, w io.Writer) error {
		return o.KeptContent(r.Context(), r.PathValue("id"), w)
	}))
	mux.HandleFunc("POST /quarantine/{id}/release", answer(func(r *http.Request) (any, error) {
		var how Release
		if err := read(r, &how); err != nil {
			return nil, err
		}
		return o.ReleaseKept(r.Context(), r.PathValue("id"), how)
	}))
	mux.HandleFunc("DELETE /quarantine/{id}", answer(func(r *http.Request) (any, error) {
		return nil, o.DeleteKept(r.Context(), r.PathValue("id"))
	}))
	mux.HandleFunc("GET /track", answer(func(r *http.Request) (any, error) { return o.Track(r.Context(), r.FormValue("query")) }))
	mux.HandleFunc("GET /health", answer(func(r *http.Request) (any, error) { return o.Health(r.Context()) }))
	mux.HandleFunc("GET /backup", stream(func(r *http.Request, w io.Writer) error { return o.Backup(r.Context(), w) }))
	return mux
}

const maxRequest = 1 << 20

func read(r *http.Request, v any) error {
	return json.NewDecoder(io.LimitReader(r.Body, maxRequest)).Decode(v)
}

// problem is how an error travels.
type problem struct {
	Error string `json:"error"`
	Kind  string `json:"kind,omitempty"`
}

// kinds are the errors that the other side tells apart.
var kinds = map[string]error{"not found": ErrNotFound, "virus": ErrVirus}

func problemOf(err error) problem {
	for kind, known := range kinds {
		if errors.Is(err, known) {
			return problem{err.Error(), kind}
		}
	}
	return problem{Error: err.Error()}
}

func answer(do func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := do(r)
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			w.WriteHeader(http.StatusUnprocessableEntity)
			v = problemOf(err)
		}
		// A peer that is gone is nobody to tell.
		_ = json.NewEncoder(w).Encode(v)
	}
}

// failed is the trailer that says what went wrong once octets are on their way:
// without it the other side would take a half for the whole.
const failed = "Postern-Failed"

func stream(do func(*http.Request, io.Writer) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", failed)
		w.Header().Set("Content-Type", "application/octet-stream")
		if err := do(r, w); err != nil {
			text, _ := json.Marshal(problemOf(err))
			w.Header().Set(failed, string(text))
		}
	}
}
