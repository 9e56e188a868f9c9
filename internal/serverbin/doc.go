// Package serverbin finds the database servers that tests and demos start, and
// fetches them where the machine has none.
//
// Nouns: a [Kind] is one of MySQL, MariaDB and etcd. A [Binary] is a server
// program that runs on this machine, with what it takes to run it. The cache is
// the folder $TABLEHAUL_CACHE, by default "tablehaul" in the user's cache folder.
//
//	Find:   $MYSQLD  ->  mysqld in PATH  ->  cache   (first one that runs)
//	Fetch:  Find, else private apt state -> download -> dpkg-deb -x -> cache
//	DataDir: an initialised data folder per server version, made once, to be copied
//
// A fetch needs neither root nor any change to the machine: the packages of a
// Debian suite, with everything they depend on down to the C library, are unpacked
// into a folder of their own, and the server runs through that folder's own
// loader.
//
//	b, err := serverbin.Find(ctx, serverbin.MySQL)
//	if err != nil {
//		return err // one line that says how to get the server
//	}
//	argv := b.Command("--no-defaults", "--version")
package serverbin
