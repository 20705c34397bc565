"""Pictures of many kinds into a folder, and beside each what Pillow's Image.open(file).convert('RGB') makes of it.

usage: pillow.py FOLDER [GOLDENS.json]

NAME      the picture
NAME.rgb  width and height (32 bits each, least byte first) and red, green and blue bytes; absent where Pillow refuses the picture
With a second argument, the small ones also go into a JSON file: name -> [base64 of the picture, SHA-256 of NAME.rgb or null].
Where libjpeg-turbo's cjpeg is installed, it adds samplings that Pillow does not write.
"""
import base64, hashlib, io, json, math, os, random, shutil, struct, subprocess, sys, warnings, zlib
from PIL import Image, ImageCms

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
warnings.simplefilter("ignore")
draw = random.Random(7)
goldens = {}


def keep(name, data, golden=False):
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)
    try:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        rgb = struct.pack("<II", *image.size) + image.tobytes()
        with open(os.path.join(folder, name + ".rgb"), "wb") as file:
            file.write(rgb)
        digest = hashlib.sha256(rgb).hexdigest()
    except Exception:
        digest = None
    if golden:
        goldens[name] = [base64.b64encode(data).decode(), digest]


def smooth(width, height, mode):
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    values = bytearray()
    for y in range(height):
        for x in range(width):
            for k in range(channels):
                value = 127 + 100 * math.sin(x / (3 + k) + k) * math.cos(y / (5 - k) + k) + draw.gauss(0, 20)
                values.append(min(255, max(0, int(value))))
    return Image.frombytes(mode, (width, height), bytes(values))


def save(name, image, format, golden=False, **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    keep(name, stream.getvalue(), golden)
    return stream.getvalue()


def jpegs(size, rgb, grey, cmyk, small):
    for quality in (10, 50, 92, 100):
        for sampling in (0, 1, 2):
            for progressive in (False, True):
                options = dict(quality=quality, subsampling=sampling, progressive=progressive)
                save(f"jpeg-{size}-q{quality}-s{sampling}-{'progressive' if progressive else 'baseline'}.jpg", rgb, "JPEG", small and quality == 92, **options)
    for progressive in (False, True):
        word = "progressive" if progressive else "baseline"
        save(f"jpeg-{size}-grey-{word}.jpg", grey, "JPEG", small, progressive=progressive)
        for sampling in (0, 2):
            save(f"jpeg-{size}-cmyk-s{sampling}-{word}.jpg", cmyk, "JPEG", small, progressive=progressive, subsampling=sampling)
    save(f"jpeg-{size}-rgb.jpg", rgb, "JPEG", small, keep_rgb=True)
    save(f"jpeg-{size}-restarts.jpg", rgb, "JPEG", small, restart_marker_blocks=1)
    save(f"jpeg-{size}-profile.jpg", rgb, "JPEG", icc_profile=profile)
    for mark in range(10):
        exif = Image.Exif()
        exif[0x112] = mark
        turned = save(f"jpeg-{size}-turned{mark}.jpg", rgb, "JPEG", small and mark == 6, exif=exif)
    keep(f"jpeg-{size}-trailing.jpg", turned + b"trailing bytes", small)
    # Stray bytes before the last marker.
    keep(f"jpeg-{size}-stray.jpg", turned[:-2] + b"\x01\x02" + turned[-2:], small)
    ink = save(f"jpeg-{size}-cmyk.jpg", cmyk, "JPEG")
    adobe = ink.find(b"Adobe")
    keep(f"jpeg-{size}-ycck.jpg", ink[: adobe + 11] + b"\x02" + ink[adobe + 12 :], small)
    keep(f"jpeg-{size}-cmyk-unnamed.jpg", ink[: adobe - 4] + ink[adobe + 12 :], small)
    # Three components as they are, and named as what they are not, by Adobe's marker and by their letters.
    plain = save(f"jpeg-{size}-444.jpg", rgb, "JPEG", subsampling=0)
    for transform in range(4):
        marker = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])
        keep(f"jpeg-{size}-adobe{transform}.jpg", plain[:2] + marker + plain[2:], small and transform == 0)
        keep(f"jpeg-{size}-adobe{transform}-alone.jpg", plain[:2] + marker + plain[20:])
        keep(f"jpeg-{size}-cmyk-adobe{transform}.jpg", ink[: adobe + 11] + bytes([transform]) + ink[adobe + 12 :])
    start, scan = plain.find(b"\xff\xc0") + 10, plain.find(b"\xff\xda") + 5
    named = bytearray(plain)
    for at, letter in enumerate(b"RGB"):
        named[start + 3 * at] = named[scan + 2 * at] = letter
    keep(f"jpeg-{size}-letters.jpg", bytes(named))
    keep(f"jpeg-{size}-letters-alone.jpg", bytes(named[:2] + named[20:]))
    # Sixteen-bit tables do not make a picture one of 12 bits; this says that it has them.
    frame = turned.find(b"\xff\xc0")
    keep(f"jpeg-{size}-12bit.jpg", turned[: frame + 4] + b"\x0c" + turned[frame + 5 :], small)
    if shutil.which("cjpeg"):
        stream = io.BytesIO()
        rgb.save(stream, "PPM")
        for sampling in "1x1 2x1 1x2 2x2 4x1 1x4 4x2 2x4 3x1 2x1,1x2,1x1 2x2,2x1,2x1 2x2,1x2,1x2 1x2,1x1,1x2 4x4,2x2,2x2".split():
            for progressive in ([], ["-progressive"]):
                made = subprocess.run(["cjpeg", "-quality", "85", "-sample", sampling, *progressive], input=stream.getvalue(), capture_output=True)
                if made.returncode == 0:
                    keep(f"cjpeg-{size}-{sampling}{''.join(progressive)}.jpg", made.stdout, small and sampling in ("1x2", "4x1") and not progressive)
        for name, words in {"grey": ["-grayscale", "-restart", "1"], "rgb": ["-rgb"], "rgb-1x2": ["-rgb", "-sample", "1x2,1x1,1x1"], "arithmetic": ["-arithmetic"]}.items():
            made = subprocess.run(["cjpeg", *words], input=stream.getvalue(), capture_output=True)
            if made.returncode == 0:
                keep(f"cjpeg-{size}-{name}.jpg", made.stdout, small)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, kind, depth, interlaced, transparent=False, colours=None):
    """Random samples under random filters, with gamma, and the data in two parts."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)] if interlaced else [(0, 0, 1, 1)]
    rows = b""
    for left, top, across, down in passes:
        columns, lines = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0:
            for _ in range(max(0, lines)):
                rows += bytes([draw.randrange(5)]) + draw.randbytes((columns * channels * depth + 7) // 8)
    data = zlib.compress(rows)
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, int(interlaced))), chunk(b"gAMA", struct.pack(">I", 100000))]
    if kind == 3:
        parts.append(chunk(b"PLTE", draw.randbytes(3 * (colours or 2**depth))))
    if transparent:
        parts.append(chunk(b"tRNS", {0: b"\0\1", 2: b"\0\1\0\2\0\3", 3: b"\0\x80"}[kind]))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", data[: len(data) // 2]) + chunk(b"IDAT", data[len(data) // 2 :]) + chunk(b"IEND", b"")


def pngs(size, width, height, rgb, rgba, small):
    for mode in ("1", "L", "LA", "RGB", "RGBA"):
        save(f"png-{size}-{mode}.png", rgba.convert(mode), "PNG")
    save(f"png-{size}-profile.png", rgb, "PNG", icc_profile=profile)
    for kind, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items():
        for depth in depths:
            for interlaced in (False, True):
                name = f"png-{size}-kind{kind}-{depth}bits{'-interlaced' if interlaced else ''}"
                keep(f"{name}.png", png(width, height, kind, depth, interlaced), small)
                if kind in (0, 2, 3):
                    keep(f"{name}-transparent.png", png(width, height, kind, depth, interlaced, transparent=True))
            if kind == 3:
                keep(f"png-{size}-kind3-{depth}bits-few.png", png(width, height, 3, depth, False, colours=2 ** (depth - 1)), small)
    for mark in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = mark
        save(f"png-{size}-turned{mark}.png", rgb, "PNG", exif=exif)
    for name, first in (("moving", False), ("moving-apart", True)):
        save(f"png-{size}-{name}.png", rgb, "PNG", save_all=True, append_images=[rgb.rotate(180)], default_image=first)
    few = rgba.quantize(7)
    for name, transparency in {"one": 3, "some": bytes([0, 128, 255, 7])}.items():
        save(f"png-{size}-palette-{name}.png", few, "PNG", transparency=transparency)
    whole = png(width, height, 2, 8, False)
    keep(f"png-{size}-unended.png", whole[:-12], small)
    keep(f"png-{size}-nothing.png", whole[:33] + whole[-12:], small)


def others(size, width, height, rgb, rgba, grey, small):
    for colours in (2, 4, 16, 200):
        few = rgb.quantize(colours)
        save(f"gif-{size}-{colours}.gif", few, "GIF", small and colours == 16, interlace=0)
        save(f"gif-{size}-{colours}-transparent.gif", few, "GIF", transparency=1)
        save(f"gif-{size}-{colours}-interlaced.gif", few, "GIF", small and colours == 4, interlace=1)
        save(f"bmp-{size}-{colours}.bmp", few, "BMP", small and colours in (2, 16))
    save(f"gif-{size}-grey.gif", grey, "GIF", small)
    moving = save(f"gif-{size}-moving.gif", rgb.quantize(32), "GIF", save_all=True, append_images=[grey.convert("P")])
    for disposal in range(4):
        frames = [rgb.quantize(32), grey.convert("P")]
        save(f"gif-{size}-disposal{disposal}.gif", frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=disposal, transparency=2, background=1)
    # The first frame's place and the canvas differ.
    at = moving.find(b"\x2c\0\0\0\0")
    keep(f"gif-{size}-beyond.gif", moving[:at] + b"\x2c\3\0\2\0" + moving[at + 5 :], small)
    keep(f"gif-{size}-within.gif", moving[:6] + struct.pack("<HH", width + 7, height + 3) + moving[10:at] + b"\x2c\3\0\2\0" + moving[at + 5 :], small)
    for mode in ("1", "L", "RGB", "RGBA"):
        save(f"bmp-{size}-{mode}.bmp", rgba.convert(mode), "BMP", small and mode == "RGB")
    row = draw.randbytes((2 * width + 3) // 4 * 4 * height)
    for name, fields in {"555": b"", "565": struct.pack("<III", 0xF800, 0x7E0, 0x1F)}.items():
        head = struct.pack("<IiiHHIIiiII", 40, width, -height, 1, 16, 3 if fields else 0, len(row), 0, 0, 0, 0) + fields
        keep(f"bmp-{size}-{name}.bmp", b"BM" + struct.pack("<IHHI", 14 + len(head) + len(row), 0, 0, 14 + len(head)) + head + row, small)
    # Headers of other lengths: OS/2's with 12 bytes, and those of versions 4 and 5 with masks and a colour space.
    lines = draw.randbytes((3 * width + 3) // 4 * 4 * height)
    head = struct.pack("<IHHHH", 12, width, height, 1, 24)
    keep(f"bmp-{size}-os2.bmp", b"BM" + struct.pack("<IHHI", 14 + len(head) + len(lines), 0, 0, 14 + len(head)) + head + lines)
    for length in (52, 56, 108, 124):
        for name, masks in {"rgba": (0xFF0000, 0xFF00, 0xFF, 0xFF000000), "abgr": (0xFF000000, 0xFF0000, 0xFF00, 0xFF), "rgbx": (0xFF0000, 0xFF00, 0xFF, 0)}.items():
            lines = draw.randbytes(4 * width * height)
            head = struct.pack("<IiiHHIIiiII", length, width, height, 1, 32, 3, len(lines), 0, 0, 0, 0) + struct.pack("<IIII", *masks)
            head = head[:length].ljust(length, b"\0")
            keep(f"bmp-{size}-v{length}-{name}.bmp", b"BM" + struct.pack("<IHHI", 14 + len(head) + len(lines), 0, 0, 14 + len(head)) + head + lines)
    for mark in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = mark
        save(f"webp-{size}-turned{mark}.webp", rgb, "WEBP", exif=exif)
    for name, options in {"lossless": {"lossless": True}, "mixed": {"allow_mixed": True}, "background": {"background": (9, 8, 7, 6)}}.items():
        save(f"webp-{size}-moving-{name}.webp", rgba, "WEBP", save_all=True, append_images=[rgba.rotate(180)], **options)
    for quality in (5, 80, 100):
        save(f"webp-{size}-q{quality}.webp", rgb, "WEBP", small and quality == 80, quality=quality)
        save(f"webp-{size}-q{quality}-transparent.webp", rgba, "WEBP", small and quality == 80, quality=quality)
    save(f"webp-{size}-lossless.webp", rgb, "WEBP", small, lossless=True)
    save(f"webp-{size}-lossless-transparent.webp", rgba, "WEBP", small, lossless=True, exact=True)
    save(f"webp-{size}-profile.webp", rgb, "WEBP", icc_profile=profile)
    save(f"webp-{size}-moving.webp", rgb, "WEBP", small, save_all=True, append_images=[rgb.rotate(180)], quality=70)
    moving = save(f"webp-{size}-moving-transparent.webp", rgba, "WEBP", small, save_all=True, append_images=[rgba.rotate(180)], quality=70)
    # A canvas wider than its frames.
    canvas = moving.find(b"VP8X") + 12
    keep(f"webp-{size}-within.webp", moving[:canvas] + struct.pack("<I", width + 6)[:3] + moving[canvas + 3 :], small)
    save(f"tiff-{size}.tif", rgb, "TIFF", small)


profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
for width, height in ((1, 1), (7, 5), (8, 8), (11, 9), (17, 33), (64, 48), (131, 97)):
    size, small = f"{width}x{height}", (width, height) == (11, 9)
    rgb, rgba = smooth(width, height, "RGB"), smooth(width, height, "RGBA")
    grey, cmyk = smooth(width, height, "L"), smooth(width, height, "CMYK")
    jpegs(size, rgb, grey, cmyk, small)
    pngs(size, width, height, rgb, rgba, small)
    others(size, width, height, rgb, rgba, grey, small)

# What is cut short is refused by both, wherever it is cut.
for name in [name for name in os.listdir(folder) if "-17x33-" in name and not name.endswith(".rgb")]:
    with open(os.path.join(folder, name), "rb") as file:
        whole = file.read()
    for share in (0.2, 0.5, 0.9):
        stem, _, kind = name.rpartition(".")
        keep(f"{stem}-cut{int(100 * share)}.{kind}", whole[: int(share * len(whole))])

if len(sys.argv) > 2:
    with open(sys.argv[2], "w") as file:
        json.dump({"pillow": __import__("PIL").__version__, "pictures": goldens}, file, indent=1, sort_keys=True)
        file.write("\n")
