package main

import (
	"context"
	"fmt"

	"postern/cmd/postern/house"
	"postern/gateway/control"
)

// openOffice finds the gateway that runs on the configured state, or opens the
// state itself where none does. closing ends the use, and says what went wrong
// with it: the answer was given by then.
func openOffice(ctx context.Context, c *commands, t terminal) (o control.Office, closing func(), err error) {
	cfg, err := load(c.Config)
	if err != nil {
		return nil, nil, err
	}
	if client, err := control.Dial(ctx, house.Socket(cfg)); err == nil {
		return client, func() {}, nil
	}
	cfg.Log.Level = "error" // a command's user wants the answer, not the log
	h, err := house.Open(ctx, cfg, newLog(t.err, cfg.Log))
	if err != nil {
		return nil, nil, err
	}
	return h.Office(), func() {
		if err := h.Close(); err != nil {
			fmt.Fprintln(t.err, "postern: closing the state:", err)
		}
	}, nil
}

// running finds the gateway that runs: only it delivers.
func running(ctx context.Context, c *commands) (control.Office, error) {
	cfg, err := load(c.Config)
	if err != nil {
		return nil, err
	}
	client, err := control.Dial(ctx, house.Socket(cfg))
	if err != nil {
		return nil, house.Advise(fmt.Errorf("no Postern runs on %s", cfg.State), "start it: it tries everything that is due by itself")
	}
	return client, nil
}
