"""``triportrait data speech``: a folder of sound that the voice networks learn from.

Each clip is a file of its own, and clips that are there are kept, so an interrupted run continues. Names tell what is in them:

* ``train_*``, ``test_*``, ``joined_*``, ``joinedtest_*``: synthesised speech with exact phonemes. ``test`` clips use voices, variants and
  languages that no ``train`` clip uses; ``joined`` voices join recorded speech.
* ``sung_*``: sung syllables out of formulas.
* ``recording_*``: real recordings with transcripts, their phonemes found by time warping.
* ``captured_*``, ``capturedtest_*``: fluent speech with captured controls.
* ``tracked_*``, ``trackedtest_*``: filmed speakers with their lips. ``labelled_*``: recordings labelled by networks.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from triportrait.errors import EmptyMedia, MediaError, OptionError, OutputError
from triportrait.files import refuse_inputs
from triportrait.media.audio import read_audio
from triportrait.motion.audio_network import AudioToMotion, load_model
from triportrait.motion.speech_features import RATE_HZ
from triportrait.training.options import Progress, SpeechOptions
from triportrait.training.voice.alignment import aligned_phones, refined_phones, viseme_scores
from triportrait.training.voice.capture import load_captured
from triportrait.training.voice.corpora import Spoken, Tracked, aligned, pseudo_labelled, write_spoken, write_tracked
from triportrait.training.voice.lip_tracks import curves_from_landmarks, load_speech_av
from triportrait.training.voice.singing import sung
from triportrait.training.voice.synthesisers import FESTIVAL_VOICES, Espeak, Phone, Utterance, check_synthesisers, festival, flite
from triportrait.training.voice.texts import SENTENCES, alphabet_text, english_words, make_text
from triportrait.types import Waveform

log = logging.getLogger(__name__)

_SPLITS = ("train", "test", "joined", "joinedtest", "sung")
#: Seconds of a sung clip.
_SUNG_S = 7.0
#: Voices of festival that join recorded speech; the Italian ones are held out.
_TEST_JOINED = ("lp_diphone", "pc_diphone")
_TRAIN_JOINED = tuple(voice for voice in FESTIVAL_VOICES if "slt" not in voice and voice not in _TEST_JOINED)
_TEST_LANGUAGES = ("it", "pl", "nl")
_TRAIN_VARIANTS = (
    "",
    "m1",
    "m2",
    "m3",
    "m4",
    "m5",
    "m7",
    "f1",
    "f2",
    "f4",
    "f5",
    "Alex",
    "Annie",
    "belinda",
    "edward",
    "steph",
    "michael",
)
_TEST_VARIANTS = ("m6", "m8", "f3", "Andy", "Alicia", "linda")
_TRAIN_FLITE = ("slt", "slt", "awb", "awb", "kal16")
#: Letters of GRID's sentences as flite has to read them.
_LETTERS = {"a": "ay"}
_SILENCES = ("sil", "sp")
_SOUNDS = (".flac", ".mp3", ".wav")


def pack_speech(options: SpeechOptions, out: Path, progress: Progress | None = None) -> int:
    """Make what is asked for and not there yet.

    Args:
        options: see there.
        out: folder for the clips.
        progress: called after every clip.

    Returns:
        Number of clips in the folder.

    Raises:
        EmptyMedia: nothing could be made.
        MediaError: an index or a recording cannot be read.
        MissingPart: a synthesiser is not installed.
        OutputError: the folder cannot be written.
    """
    if options.untranscribed is not None and len(options.teachers) < 2:
        raise OptionError("--untranscribed needs two networks that label it; name them with --teachers A B")
    refuse_inputs(out, [options.recordings, options.tracked, options.captured, options.untranscribed])
    check_synthesisers(_programs(options))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"'{out}' cannot be written: {error.strerror or error}; choose another folder") from None
    tell = progress or (lambda what, done, total: None)
    _synthesise(options, out, tell)
    model = load_model(options.model) if options.model is not None else None
    if model is not None and not (isinstance(model, AudioToMotion) and model.config.visemes):
        raise OptionError(f"'{options.model}' cannot name sounds; give a single network that 'triportrait train voice' made")
    if options.recordings is not None:
        _align_recordings(options.recordings, out, options, model, tell)
    if options.tracked is not None:
        _pack_tracks(options.tracked, out, options, model, tell)
    if options.captured is not None:
        _pack_captured(options, out, tell)
    if options.untranscribed is not None:
        _label(options.untranscribed, out, options.teachers, tell)
    count = sum(1 for _ in out.glob("*.npz"))
    if not count:
        raise EmptyMedia("there is nothing to make; ask for --clips, --recordings, --tracked, --captured or --untranscribed")
    return count


def _programs(options: SpeechOptions) -> list[str]:
    """Synthesisers that are needed for what is asked."""
    needed = []
    has_words = options.tracked is not None and (options.tracked / "words.csv").exists()
    if options.clips or options.test_clips or options.recordings is not None or has_words:
        needed.append("flite")
    if options.clips or options.joined_clips:
        needed.append("festival")
    if options.clips or options.test_clips:
        needed.append("espeak-ng")
    return needed


# -- synthesised speech -----------------------------------------------------------------------------------------------------


def _synthesise(options: SpeechOptions, out: Path, progress: Progress) -> None:
    jobs = [("test", i) for i in range(options.test_clips)] + [("train", i) for i in range(options.clips)]
    jobs += [("joined", i) for i in range(options.joined_clips)]
    jobs += [("joinedtest", i) for i in range(options.joined_clips // 16)]
    jobs += [("sung", i) for i in range(options.sung_clips)]
    words = english_words()
    espeak: Espeak | None = None
    for done, (split, number) in enumerate(jobs, 1):
        path = out / f"{split}_{number:05d}.npz"
        if not path.exists():
            random = np.random.default_rng([options.seed, _SPLITS.index(split), number])
            if split == "sung":
                clip = sung(_SUNG_S, random)
            elif split.startswith("joined"):
                clip = spoken_clip(*_joined_utterance(split, words, random))
            else:
                espeak = espeak or Espeak()
                clip = spoken_clip(*_utterance(split, words, espeak, random))
            write_spoken(path, clip)
        progress("speech", done, len(jobs))


def spoken_clip(utterance: Utterance, voice: str) -> Spoken:
    """An utterance at 16 kHz, as loud as all others."""
    import soxr

    samples = soxr.resample(utterance.waveform.samples, utterance.waveform.rate_hz, RATE_HZ)
    samples = np.clip(samples / max(float(np.abs(samples).max()), 1e-3) * 0.7, -1, 1)
    return Spoken((samples * 32767).astype(np.int16), utterance.phones, voice)


def _utterance(split: str, words: list[str], espeak: Espeak, random: np.random.Generator) -> tuple[Utterance, str]:
    """One utterance of the split and the name of its voice."""
    stretch = float(np.exp(random.normal(0.0, 0.16)))
    kind = random.random()
    if split == "test":
        if kind < 0.4:
            return flite(make_text("en-us", words, random), "rms", stretch), "flite:rms"
        language = str(random.choice(("en-us",) + _TEST_LANGUAGES))
        variants: tuple[str, ...] = _TEST_VARIANTS
    else:
        if kind < 0.4:
            voice = str(random.choice(_TRAIN_FLITE))
            return flite(make_text("en-us", words, random), voice, stretch), f"flite:{voice}"
        if kind < 0.48:
            return festival(make_text("en-us", words, random), duration_stretch=stretch), "festival:slt"
        language = str(random.choice([name for name in SENTENCES if name not in _TEST_LANGUAGES] + ["en-us", "en-gb-x-rp"]))
        variants = _TRAIN_VARIANTS
    variant = str(random.choice(variants))
    voice = language + (f"+{variant}" if variant else "")
    rate = int(np.clip(160 / stretch, 100, 260))
    pitch, spread = int(random.integers(25, 80)), int(random.integers(30, 80))
    return espeak.speak(make_text(language.split("+")[0], words, random), voice, rate, pitch, spread), f"espeak:{voice}"


def _joined_utterance(split: str, words: list[str], random: np.random.Generator) -> tuple[Utterance, str]:
    """About ten seconds of a festival voice that joins recorded speech."""
    voice = str(random.choice(_TEST_JOINED if split == "joinedtest" else _TRAIN_JOINED))
    language = FESTIVAL_VOICES[voice][0]
    # Letters outside the voice's 8-bit alphabet are not read; Russian is read in UTF-8.
    if language == "en-us":
        text = " ".join(make_text(language, words, random) for _ in range(2))
    else:
        text = alphabet_text(language, random)
    stretch = float(np.exp(random.normal(0.0, 0.16)))
    return festival(text, voice, stretch), f"festival:{voice}"


# -- real speech ------------------------------------------------------------------------------------------------------------


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file with these columns."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows, found = list(reader), reader.fieldnames or []
    except (OSError, ValueError, csv.Error) as error:
        raise MediaError(f"'{path}' cannot be read as CSV ({error}); check the path") from None
    missing = [name for name in columns if name not in found]
    if missing:
        raise MediaError(f"'{path}' has no column {missing[0]!r}; it needs {', '.join(columns)}")
    return rows


def _align_recordings(index: Path, out: Path, options: SpeechOptions, model: AudioToMotion | None, progress: Progress) -> None:
    """Real recordings with transcripts; phonemes by warping flite's time onto theirs."""
    rows = _rows(index, ("file", "transcript"))
    for number, row in enumerate(rows):
        path = out / f"recording_{number:05d}.npz"
        if not path.exists():
            waveform = read_audio(index.parent / row["file"], RATE_HZ)
            phones, cost = aligned_phones(flite(row["transcript"], options.voice), waveform)
            if model is not None:
                phones = refined_phones(phones, viseme_scores(model, waveform.samples))
            if cost <= options.worst_cost:
                samples = (np.clip(waveform.samples, -1, 1) * 32767).astype(np.int16)
                write_spoken(path, Spoken(samples, phones, f"recording:{row['file']}"))
            else:
                log.warning("'%s' is left out: flite's words match it badly (%.2f)", row["file"], cost)
        progress("recordings", number + 1, len(rows))


def _pack_tracks(folder: Path, out: Path, options: SpeechOptions, model: AudioToMotion | None, progress: Progress) -> None:
    """Filmed speakers: their lips as curves, brought into step with their sound, and phonemes within the words' times."""
    head = options.head if options.head is not None else folder.parent / "ict_facekit.npz"
    if not head.exists():
        raise MediaError(f"there is no '{head}', which explains tracked lips; name it with --head")
    audio = {row["clip"]: row["audio"] for row in _rows(folder / "index.csv", ("clip", "split", "audio", "landmarks_file"))}
    words = _words_of(folder / "words.csv") if (folder / "words.csv").exists() else {}
    lexicon = _lexicon({word for clip in words.values() for *_, word in clip}, options.voice)
    network = model if model is not None else load_model()
    tracks = load_speech_av(folder)
    for done, (name, (split, track)) in enumerate(tracks.items(), 1):
        path = out / f"{'tracked' if split == 'train' else 'trackedtest'}_{name}.npz"
        if not path.exists():
            waveform = read_audio(folder / audio[name], RATE_HZ)
            phones = phones_in_words(words[name], waveform, lexicon, model) if name in words else ()
            clip = Tracked((waveform.samples * 32767).astype(np.int16), curves_from_landmarks(track, head), name, phones)
            write_tracked(path, aligned([clip], network)[0])
        progress("tracked lips", done, len(tracks))


def _pack_captured(options: SpeechOptions, out: Path, progress: Progress) -> None:
    """Fluent speech with captured controls, in pieces; contacts as the built-in network hears them."""
    assert options.captured is not None
    names = sorted(path.stem for path in options.captured.glob("*.npz"))
    drawn = names[int(np.random.default_rng(options.seed).integers(len(names)))] if names else ""
    pieces = load_captured(options.captured, load_model(options.model), options.captured_held_out or drawn)
    for done, (split, piece) in enumerate(pieces, 1):
        write_tracked(out / f"{split}_{piece.name}.npz", piece)
        progress("captured lips", done, len(pieces))


def _words_of(path: Path) -> dict[str, list[tuple[float, float, str]]]:
    words: dict[str, list[tuple[float, float, str]]] = {}
    for row in _rows(path, ("clip", "start_s", "end_s", "word")):
        words.setdefault(row["clip"], []).append((float(row["start_s"]), float(row["end_s"]), row["word"]))
    return words


def _lexicon(words: set[str], voice: str) -> dict[str, tuple[Phone, ...]]:
    """Words -> their phonemes as flite says them alone."""
    spoken = {word: flite(_LETTERS.get(word, word), voice).phones for word in sorted(words) if word not in _SILENCES}
    return {word: tuple(phone for phone in phones if phone.symbol != "pau") for word, phones in spoken.items()}


def phones_in_words(
    words: Sequence[tuple[float, float, str]], waveform: Waveform, lexicon: dict[str, tuple[Phone, ...]], model: AudioToMotion | None
) -> tuple[Phone, ...]:
    """Phonemes of a recording whose words have times: (start_s, end_s, word), silences are ``sil`` or ``sp``."""
    phones: list[Phone] = []
    for start, end, word in words:
        if word in _SILENCES:
            phones.append(Phone("pau", start, end))
            continue
        spoken = lexicon[word]
        first, scale = spoken[0].start_s, (end - start) / (spoken[-1].end_s - spoken[0].start_s)
        phones += [Phone(p.symbol, start + (p.start_s - first) * scale, start + (p.end_s - first) * scale) for p in spoken]
    seconds = len(waveform.samples) / waveform.rate_hz
    if phones[-1].end_s < seconds:
        phones.append(Phone("pau", phones[-1].end_s, seconds))
    return tuple(phones) if model is None else refined_phones(tuple(phones), viseme_scores(model, waveform.samples), 0.08)


def _label(folder: Path, out: Path, teachers: Sequence[Path], progress: Progress) -> None:
    """Recordings without transcript, labelled where the networks agree."""
    models = [load_model(path) for path in teachers]
    sounds = list(_learned_recordings(folder))
    for done, sound in enumerate(sounds, 1):
        path = out / f"labelled_{sound.stem}.npz"
        if not path.exists():
            clip = pseudo_labelled(read_audio(sound, RATE_HZ).samples, sound.stem, models)
            if clip is None:
                log.warning("'%s' is left out: the networks disagree about it", sound.name)
            else:
                write_tracked(path, clip)
        progress("labels", done, len(sounds))


def _learned_recordings(folder: Path) -> Iterator[Path]:
    """Every third one is left for tests."""
    if not folder.is_dir():
        raise MediaError(f"there is no folder '{folder}'; check the path")
    sounds = sorted(path for path in folder.iterdir() if path.suffix in _SOUNDS)
    return (path for number, path in enumerate(sounds) if number % 3)
