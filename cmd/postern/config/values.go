package config

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// Duration is Go's, and whole days as "5d".
type Duration time.Duration

// Std is the duration as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// UnmarshalText reads "90s", "1h30m", "5d".
func (d *Duration) UnmarshalText(b []byte) error {
	text, err := expand(string(b))
	if err != nil {
		return err
	}
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is no duration: write \"90s\", \"15m\", \"1h30m\" or \"5d\"", text)
		}
		*d = Duration(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	std, err := time.ParseDuration(text)
	if err != nil || std < 0 {
		return fmt.Errorf("%q is no duration: write \"90s\", \"15m\", \"1h30m\" or \"5d\"", text)
	}
	*d = Duration(std)
	return nil
}

// String writes the duration as UnmarshalText reads it.
func (d Duration) String() string {
	const day = 24 * time.Hour
	if std := d.Std(); std >= day && std%day == 0 {
		return fmt.Sprintf("%dd", std/day)
	}
	return d.Std().String()
}

// Size is a number of octets: "50MB" is 50·10⁶, "512KiB" is 512·2¹⁰.
type Size int64

var units = []struct {
	suffix string
	factor float64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
}

// UnmarshalText reads a number with a unit.
func (s *Size) UnmarshalText(b []byte) error {
	text, err := expand(string(b))
	if err != nil {
		return err
	}
	number, factor := strings.TrimSpace(text), 1.0
	for _, u := range units {
		if rest, has := strings.CutSuffix(number, u.suffix); has {
			number, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n < 0 || math.IsNaN(n) || n*factor > 1<<60 {
		return fmt.Errorf("%q is no size: write \"50MB\" or \"512KiB\"", text)
	}
	*s = Size(n * factor)
	return nil
}

// expand puts the environment's values where the file says ${NAME}; $$ is a
// dollar.
func expand(s string) (string, error) {
	if !strings.Contains(s, "$") {
		return s, nil
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "$")
		b.WriteString(before)
		switch {
		case !found:
			return b.String(), nil
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			s = rest[1:]
		case strings.HasPrefix(rest, "{"):
			name, after, closed := strings.Cut(rest[1:], "}")
			if !closed {
				return "", errors.New("\"${\" without \"}\"; write $$ for a dollar")
			}
			value, defined := os.LookupEnv(name)
			if !defined {
				return "", fmt.Errorf("environment variable %s is not defined", name)
			}
			b.WriteString(value)
			s = after
		default:
			b.WriteByte('$')
			s = rest
		}
	}
}
