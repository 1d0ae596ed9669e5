package attachments

// DefaultExtensions is what no company needs by mail from strangers: what a
// double click runs on some system, what mounts or unpacks such files under
// readers' eyes, and what a scanner can't look into.
const DefaultExtensions = `
	ace ade adp accde apk app appinstaller application appref-ms appx appxbundle arj bat cab chm cmd com
	command cpl desktopthemepackfile diagcab diagcfg diagpkg dll dmg drv exe fxp gadget hlp hta img inf ins
	iqy iso isp jar jnlp js jse ksh lib library-ms lnk mad maf mag mam maq mar mas mat mau mav maw mda mdb
	mde mdt mdw mdz mjs msc msh msh1 msh2 mshxml msh1xml msh2xml msi msix msixbundle msp mst msu nsh ocx one
	onepkg ops pcd pif pl plg prf prg ps1 ps1xml ps2 ps2xml psc1 psc2 psm1 py pyc pyo pyw pyz rdp reg scf scr
	sct searchconnector-ms search-ms settingcontent-ms shb shs slk sys theme themepack tmp udf url vb vbe
	vbp vbs vhd vhdx vsmacros vsw vxd website wim ws wsc wsf wsh xbap xll xlam xnk`

// DefaultTypes is the same by media type. It is held against what the sender
// claims, since a client names an unnamed file after its type, and against what
// the content is, so that a program is one under any name.
const DefaultTypes = `
	application/hta application/java-archive application/java-vm application/javascript
	application/vnd.android.dex application/vnd.microsoft.portable-executable
	application/vnd.ms-cab-compressed application/vnd.ms-htmlhelp application/winhlp
	application/x-ace-compressed application/x-bat application/x-dosexec application/x-elf
	application/x-executable application/x-java-applet application/x-javascript
	application/x-mach-binary application/x-ms-encoded-script application/x-ms-installer
	application/x-ms-shortcut application/x-ms-wim application/x-msdos-program
	application/x-msdownload application/x-msi application/x-sharedlib application/x-vbs
	application/x-vhd application/x-vhdx message/partial text/javascript text/vbscript
	text/x-shellscript`

// decoys are extensions that people open without a thought. In front of a
// blocked one they are a disguise.
const decoys = `
	avi bmp csv doc docm docx eml gif htm html jpeg jpg log mov mp3 mp4 odp ods odt pdf png pps ppsx ppt pptx
	rtf svg tif tiff txt wav webp xls xlsm xlsx xml zip`

// documents are zips that their program opens as a whole: nobody is shown the
// members by name, so only their content is looked at. Macros have their own
// filter.
const documents = `
	docm docx dotm dotx epub key numbers odb odf odg odp ods odt otg otp ots ott pages potm potx ppam ppsm
	ppsx pptm pptx sldx thmx vsdm vsdx xlsb xlsm xlsx xltm xltx xps`

// zips are opened even when they don't begin as one does: what unpacks zips
// looks for their end.
const zips = `zip zipx jar war ear apk xpi whl kmz cbz`
