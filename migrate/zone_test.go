package migrate

import "testing"

func TestLoadZone(t *testing.T) {
	if z, err := loadZone(""); z != nil || err != nil {
		t.Errorf("no zone: %v, %v", z, err)
	}
	if z, err := loadZone("Europe/Berlin"); err != nil || z.String() != "Europe/Berlin" {
		t.Errorf("Europe/Berlin: %v, %v", z, err)
	}
	for _, bad := range []string{"Mars/Olympus", "Local", "../etc/passwd"} {
		if z, err := loadZone(bad); err == nil {
			t.Errorf("%s is zone %v", bad, z)
		}
	}
}
