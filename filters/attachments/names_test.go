package attachments

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestJudgeName: what the default lists say of a name as it was sent; "" passes.
func TestJudgeName(t *testing.T) {
	f, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	const clsid = "{3050f4d8-98B5-11CF-BB82-00AA00BDCE0B}"
	for sent, want := range map[string]string{
		"":                              "",
		"report.pdf":                    "",
		"Bericht 1.2.2024.docx":         "",
		"exe":                           "",
		"a.exe.txt":                     "",
		"archive.tar.gz":                "",
		"смета.xlsx":                    "",
		"x.exe":                         "files ending in .exe",
		"X.EXE":                         "files ending in .exe",
		".exe":                          "files ending in .exe",
		"x.exe.":                        "files ending in .exe",
		"x.exe. . .":                    "files ending in .exe",
		"x.exe \t":                      "files ending in .exe",
		"x. exe":                        "files ending in .exe",
		"x.exe/":                        "files ending in .exe",
		"x.exe\x00.txt":                 "files ending in .exe",
		"x.exe\x00":                     "files ending in .exe",
		"x.ex\x00e":                     "files ending in .exe",
		"x.e\x01xe":                     "files ending in .exe",
		"x.exe\r\n.txt":                 "files ending in .exe",
		"x.exe\xa0":                     "files ending in .exe",
		"x.exe\ufffd.txt":               "files ending in .exe",
		"x.exe\u00a0":                   "files ending in .exe",
		"x.exe\u200b":                   "files ending in .exe",
		"x.e\u00adxe":                   "files ending in .exe",
		"x.exe\ufe0f":                   "files ending in .exe",
		"x\uff0e\uff45\uff58\uff45":     "files ending in .exe",
		"x\u2024exe":                    "files ending in .exe",
		"x.ex\u1d49":                    "files ending in .exe",
		"x.j\u017f":                     "files ending in .js",
		"x.exe:y":                       "files ending in .exe",
		"x.exe::$DATA":                  "files ending in .exe",
		"x.txt:y.exe":                   "files ending in .exe",
		"C:x.exe":                       "files ending in .exe",
		`C:\Temp\x.exe`:                 "files ending in .exe",
		"../../x.exe":                   "files ending in .exe",
		"x.exe/x.txt":                   "",
		`x.exe"`:                        "files ending in .exe",
		"x.e<>|?*xe":                    "files ending in .exe",
		"x\u202etxt.exe":                "a .exe file whose name is written backwards",
		"x\u2067txt.exe":                "a .exe file whose name is written backwards",
		"invoice.pdf.exe":               "a .exe file disguised as .pdf",
		"invoice.PDF      .exe":         "a .exe file disguised as .pdf",
		"invoice.pdf______.exe":         "a .exe file disguised as .pdf",
		"invoice.pdf. .exe":             "a .exe file disguised as .pdf",
		"photo.jpg.lnk":                 "a .lnk file disguised as .jpg",
		"setup.v2.exe":                  "files ending in .exe",
		"x.appref-ms":                   "files ending in .appref-ms",
		"x.settingcontent-ms":           "files ending in .settingcontent-ms",
		"x.one":                         "files ending in .one",
		"x.txt." + clsid:                "the name hides the kind of file behind a class identifier",
		"x." + clsid + ".txt":           "the name hides the kind of file behind a class identifier",
		"x.{a}." + clsid:                "the name hides the kind of file behind a class identifier",
		"x.{not a class identifier}":    "",
		"x.{" + strings.Repeat("g", 36): "",
	} {
		got, _ := f.judge(file{names: []string{sent}})
		if (want == "") != (got == "") || !strings.HasPrefix(got, want) {
			t.Errorf("%q: got %q, want %q", sent, got, want)
		}
	}
}

// Every extension that the product promises to block.
func TestDefaultExtensions(t *testing.T) {
	const promised = `ace ade adp accde apk app appinstaller application appref-ms appx arj bat cab chm cmd com command cpl
		desktopthemepackfile diagcab dll dmg drv exe fxp gadget hlp hta img inf ins iqy iso isp jar jnlp js jse ksh lib
		library-ms lnk mad maf mag mam maq mar mas mat mau mav maw mda mdb mde mdt mdw mdz msc msh msh1 msh2 mshxml msi
		msix msp mst msu ocx onepkg ops pcd pif pl plg prf prg ps1 ps1xml ps2 psc1 psc2 psm1 py pyc pyo pyw pyz rdp reg
		scf scr sct searchconnector-ms search-ms settingcontent-ms shb shs slk sys theme themepack tmp udf url vb vbe vbp
		vbs vhd vhdx vsmacros vsw vxd website wim ws wsc wsf wsh xbap xll xlam xnk`
	f, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for ext := range strings.FieldsSeq(promised) {
		if !f.extensions[ext] {
			t.Errorf(".%s passes", ext)
		}
	}
	for ext := range strings.FieldsSeq("pdf docx xlsx pptx doc xls txt csv jpg png zip eml ics vcf p7s asc mp4 odt 7z gz html") {
		if f.extensions[ext] {
			t.Errorf(".%s is blocked", ext)
		}
	}
}

// Names are looked at to maxName octets, and past that at both ends.
func TestLongNames(t *testing.T) {
	f, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{maxName - 4, maxName - 3, 10 * maxName} {
		sent := strings.Repeat("a", n) + ".exe"
		reason, evidence := f.judge(file{names: []string{sent}})
		if reason == "" || len(evidence) > maxDisplay {
			t.Errorf("%d octets: %q, evidence of %d", n, reason, len(evidence))
		}
		if !strings.HasSuffix(display(sent), ".exe") {
			t.Errorf("shown without its extension: %s", display(sent))
		}
	}
}

func TestDisplay(t *testing.T) {
	for sent, want := range map[string]string{
		"report.pdf":                  "report.pdf",
		"a\x00b\r\nc\x7f":             "a_b__c_",
		"ann\u202excod.exe":           "annxcod.exe",
		"\xff\xfe":                    "__",
		"a\u2028b":                    "a_b",
		"Übersicht für Österreich":    "Übersicht für Österreich",
		strings.Repeat("a", 255):      strings.Repeat("a", 255),
		strings.Repeat("a", 256):      strings.Repeat("a", 191) + "…" + strings.Repeat("a", 60),
		strings.Repeat("\u00fc", 128): strings.Repeat("\u00fc", 95) + "…" + strings.Repeat("\u00fc", 30),
	} {
		if got := display(sent); got != want {
			t.Errorf("%q is shown as %q", sent, got)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, seed := range []string{"x.exe", "x\u202etxt.exe", "x.txt.{3050f4d8-98b5-11cf-bb82-00aa00bdce0b}", "a\x00b:c/d\\e. ", "\xff\ufdfa.\uff45xe", ".{.{.{"} {
		f.Add(seed)
	}
	filter, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		for _, name := range readings(sent) {
			if strings.ContainsAny(name, "/\\\x00\r\n") || !utf8.ValidString(name) {
				t.Errorf("%q is read as %q", sent, name)
			}
		}
		if shown := display(sent); len(shown) > maxDisplay || !utf8.ValidString(shown) || strings.ContainsAny(shown, "\x00\r\n\u202e") {
			t.Errorf("%q is shown as %q", sent, shown)
		}
		// Whatever stands in front of it, and whatever case it has.
		if reason, _ := filter.judge(file{names: []string{sent + ".eXe"}}); reason == "" {
			t.Errorf("%q passes", sent+".eXe")
		}
	})
}
