package replication_test

import (
	"fmt"

	"github.com/tablehaul/tablehaul/replication"
)

func ExampleParsePosition() {
	// As a server prints @@gtid_executed.
	p, err := replication.ParsePosition("4350F323-7565-4E59-8763-4B1B83A0CE0E:1-5:7,\n3e11fa47-71ca-11e1-9e33-c80aa9429562:1-3:backup:1")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p)
	// Output:
	// MySQL56/3e11fa47-71ca-11e1-9e33-c80aa9429562:1-3:backup:1,4350f323-7565-4e59-8763-4b1b83a0ce0e:1-5:7
}

func ExamplePosition_Add() {
	p, err := replication.ParsePosition("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7")
	if err != nil {
		fmt.Println(err)
		return
	}
	g, err := replication.ParseGTID("3e11fa47-71ca-11e1-9e33-c80aa9429562:6")
	if err != nil {
		fmt.Println(err)
		return
	}
	q := p.Add(g)
	fmt.Println(p.Contains(g), p.Text())
	fmt.Println(q.Contains(g), q.Text())
	// Output:
	// false 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7
	// true 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7
}

func ExamplePosition_Covers() {
	applied, _ := replication.ParsePosition("0-1-90,1-1-7")
	for _, text := range []string{"0-1-80", "0-2-95", "2-1-1"} {
		wanted, err := replication.ParsePosition(text)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(text, applied.Covers(wanted))
	}
	// Output:
	// 0-1-80 true
	// 0-2-95 false
	// 2-1-1 false
}
