package topo

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// timeMessage is vttime.Time.
type timeMessage struct {
	layout
	seconds     int64
	nanoseconds int32
}

func (m *timeMessage) fields() []field {
	return []field{
		intField[int64]{label: label{1, "seconds"}, v: &m.seconds},
		intField[int32]{label: label{2, "nanoseconds"}, v: &m.nanoseconds},
	}
}

// timeField is a point in time; the zero Time stands for none. Times are read in UTC.
func timeField(num protowire.Number, text string, v *time.Time) field {
	return valueField[time.Time, timeMessage, *timeMessage]{
		label{num, text},
		v,
		func(t time.Time) timeMessage {
			return timeMessage{seconds: t.Unix(), nanoseconds: int32(t.Nanosecond())}
		},
		func(m timeMessage) (time.Time, error) { return time.Unix(m.seconds, int64(m.nanoseconds)).UTC(), nil },
	}
}
