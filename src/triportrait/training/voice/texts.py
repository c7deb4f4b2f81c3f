"""What the synthesisers say: words of the CMU dictionary in English, own short sentences in other languages, pseudo-words in all.

Pseudo-words are rich in p, b, m, f, v and w, whose lips are seen best.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

#: Language of espeak-ng -> short sentences.
SENTENCES: dict[str, str] = {
    "en-us": "we may move the big blue box|please bring me a map of the farm|my mother bought five apples at the market|"
    "above the bay a plane is flying|people believe what they want to believe|the weather was warm for most of the week|"
    "he put the paper back upon the table|a few of them never moved before|what would you do with so much water",
    "de": "meine Mutter kommt am Abend mit dem Bus|bitte gib mir ein Glas Wasser|fünf Bäume stehen vor dem Haus|"
    "über den Bergen liegt viel Schnee|wir möchten morgen früh aufbrechen|der Apfel fällt nicht weit vom Stamm|"
    "schöne Blumen blühen im Mai|das Pferd läuft über die Brücke|am Bahnhof warten viele Menschen",
    "fr": "ma mère prépare un bon repas|nous avons bu du vin blanc|il pleut beaucoup au mois de mai|"
    "le petit bateau part pour la mer|vous pouvez venir avec moi demain|la voiture bleue est devant la porte|"
    "je voudrais une tasse de café|un homme marche sur la plage|beaucoup de monde aime la musique",
    "es": "mi madre prepara la comida|el barco viene por la mañana|buenos días a todos mis amigos|"
    "vamos a beber un vaso de agua|la puerta de mi casa es blanca|por favor abre la ventana|el hombre compró pan y miel|"
    "siempre hablamos por la noche|me gusta mucho viajar en tren",
    "pt": "minha mãe comprou pão e manteiga|bom dia meu amigo como vai você|o barco partiu para o mar|"
    "por favor abra a porta da frente|a menina bebe um copo de água|vamos embora amanhã de manhã|o homem falou muito bem",
    "ru": "мама мыла раму|поезд прибывает в полдень|большое спасибо вам за помощь|мы любим пить чай вечером|"
    "на берегу моря было тепло|папа купил пять яблок|белая собака бежит по полю|можно мне воды пожалуйста",
    "sv": "min mamma bor på landet|vi vill äta bröd med smör|båten går över sjön på morgonen|"
    "de pratar om vädret varje dag|fem fåglar flyger över berget|barnen badar på sommaren",
    "tr": "annem pazardan elma aldı|bugün hava çok güzel|lütfen bana bir bardak su ver|beyaz gemi limana geldi|"
    "babam mavi arabayı sattı|biz müzik dinlemeyi çok seviyoruz",
    "fi": "mummo menee mökille maanantaina|poika juo lasin vettä|pieni vene on meren rannalla|"
    "hyvää päivää kaikille ystäville|me puhumme paljon musiikista",
    "hi": "मेरी माँ बाज़ार जाती है|कृपया मुझे पानी दो|बच्चे बाहर खेल रहे हैं|मौसम बहुत अच्छा है|पाँच फूल बगीचे में हैं",
    "id": "ibu membeli pisang di pasar|bapak membaca buku baru|mereka bermain bola bersama|"
    "selamat pagi apa kabar|perahu biru ada di pantai",
    "ja": "はは は まいあさ パン を たべます|ぼく は みず を のみます|ふね が うみ を わたる|まど を あけて ください",
    # Held out for the test split:
    "it": "mia madre prepara la pasta|un bicchiere d'acqua per favore|la barca bianca parte per il mare|"
    "buon giorno a tutti voi|il bambino vuole un gelato|abbiamo bevuto un buon vino|mi piace molto la musica",
    "pl": "moja mama kupiła pięć jabłek|poproszę szklankę wody|biały pies biegnie po polu|"
    "bardzo lubimy muzykę|w maju kwitną piękne kwiaty|pociąg przyjeżdża po południu",
    "nl": "mijn moeder koopt brood en melk|wij wonen vlak bij de zee|vijf vogels vliegen boven het bos|"
    "mag ik een glas water|de boot vaart over het meer|het weer is vandaag bijzonder mooi",
}
#: Letters of pseudo-words where an alphabet or its spelling differs from the English one: onsets, vowels, codas.
LETTERS: dict[str, tuple[str, str, str]] = {
    "ru": ("п б м ф в п б м т д н с к г л р ш ж ч х", "а о у и э ы я ю е", "м п б н с т л ф р ш"),
    "cs": ("p b m f v p b m t d n s k h l r ch z st pr", "a e i o u a o", "m p n s t l f r k"),
    "fi": ("p m v p m t n s k l r h j pr", "a e i o u y aa ii uu ai ou", "n s t l r m"),
    "ca": ("p b m f v p b m t d n s c g l r x", "a e i o u a o", "m p n s t l f r"),
    "it": ("p b m f v p b m t d n s c g l r sc z st pr", "a e i o u a o", "n s l r"),
}
_ONSETS = "p b m f v w p b m t d n s k g l r sh ch th j h st br pl fl sp tr".split()
_NUCLEI = "a e i o u a o u ee oo ai ou".split()
_CODAS = ["", "", "", "m", "p", "b", "n", "s", "t", "l", "f", "v", "r"]


def english_words() -> list[str]:
    """Words of the CMU dictionary that festival carries, or of our sentences when it is not installed."""
    path = Path("/usr/share/festival/dicts/cmu/cmudict-0.4.out")
    if path.exists():
        found = re.findall(r'^\("([a-z]{2,9})" nil', path.read_text(errors="ignore"), re.M)
        if found:
            return sorted(set(found))
    return SENTENCES["en-us"].replace("|", " ").split()


def pseudo_word(random: np.random.Generator) -> str:
    """A pronounceable word that is none."""
    syllables = int(random.integers(1, 4))
    return "".join(random.choice(_ONSETS) + random.choice(_NUCLEI) + random.choice(_CODAS) for _ in range(syllables))


def make_text(language: str, words: list[str], random: np.random.Generator) -> str:
    """One to three phrases, some with commas."""
    phrases = []
    for _ in range(int(random.integers(1, 4))):
        kind = random.random()
        if kind < 0.25 and language not in ("hi", "ja", "ru"):
            phrase = " ".join(pseudo_word(random) for _ in range(int(random.integers(2, 6))))
        elif language.startswith("en") and kind < 0.75:
            filler = ["the", "a", "my", "of", "from", "we", "with", "above", "but", "if", "for"]
            picked = [str(random.choice(words)) for _ in range(int(random.integers(2, 5)))]
            phrase = " ".join(f"{random.choice(filler)} {word}" for word in picked)
        else:
            phrase = str(random.choice(SENTENCES.get(language, SENTENCES["en-us"]).split("|")))
        phrases.append(phrase)
    return ", ".join(phrases) + "."


def alphabet_text(language: str, random: np.random.Generator) -> str:
    """Three to five phrases of pseudo-words with the letters of a language in :data:`LETTERS`, some of them sentences."""
    onsets, vowels, codas = (part.split() for part in LETTERS[language])
    phrases = []
    for _ in range(int(random.integers(3, 6))):
        if language in ("ru", "it") and random.random() < 0.5:
            phrases.append(str(random.choice(SENTENCES[language].replace("'", " ").split("|"))))
            continue
        spoken = []
        for _ in range(int(random.integers(2, 6))):
            syllables = [random.choice(onsets) + random.choice(vowels) for _ in range(int(random.integers(1, 4)))]
            spoken.append("".join(syllables) + (random.choice(codas) if random.random() < 0.5 else ""))
        phrases.append(" ".join(spoken))
    return ", ".join(phrases) + "."
