"""Changed replies for training the pair judge: changes whose effect on a rating is known without asking anybody.

Three kinds. Harmless changes keep the human levels (a further apology where there already is a reaction, a question
without content, empty sentences, another order). Spoiling changes set levels to 0 (care denied, questions refused).
And `WRITTEN`: a few conversations written for this project, each with a fitting reply, one for the wrong mood and a
hostile one, sad and joyful alike, so that no word is bad in itself.

Nothing here stands in the invariance suite (`invariance`); a test compares the two. The *kinds* of change were chosen
knowing the suite's checks, and the card of the head says so.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

Levels = Mapping[str, int | None]
"""Level by mechanism; None where the change leaves it unknown."""

EMPTY_QUESTIONS = (
    "Any thoughts?",
    "Does that make sense?",
    "You know what I mean?",
    "What's your opinion?",
    "Don't you agree?",
    "What would you say?",
    "Makes sense?",
    "How does that sound?",
    "Wouldn't you say so?",
    "What is your take on it?",
    "Right?",
    "Do you see what I mean?",
    "What do you make of that?",
    "Do you think so too?",
)
APOLOGIES = ("So sorry.", "I am really sorry.", "Sorry!", "I'm sorry about that.", "Sorry to hear that.", "Very sorry.")
FILLERS = (
    "Things go one way or another.",
    "There is a time for this and a time for that.",
    "Every day has its morning and its evening.",
    "It is one of those matters that have several sides.",
    "Weeks pass and then other weeks come.",
    "Such is the way of it.",
    "Some say this and others say that.",
    "That is about the long and the short of it.",
)

_FEELING = (
    (r"\b(i'm|i am|im) (?:so |very |really |truly |deeply )*(sorry|glad|happy|proud|here for you)\b", r"\1 not \2"),
    (r"^(?:so |very )?sorry\b", "not sorry"),
    (r"\bi (?:really |truly |do )?(hope|wish|love|care|feel for you)\b", r"i don't \1"),
    (r"\bmy heart (goes out|breaks|hurts|aches)\b", r"my heart never \1"),
    (r"\b(?:sending|big) (?:you )?(\w* ?(?:hugs?|love))\b", r"no \1"),
    (r"\byou(?:'re| are) not alone\b", "you are alone"),
)
_READING = (
    (r"\bi (?:totally |completely |really |fully |can )*(understand|relate|get it|know how|know what|feel you)\b",
     r"i don't \1"),
    (r"\bi can (see|imagine|tell)\b", r"i can't \1"),
    (r"\b(that|it|this) must (?:be|feel|have been)\b", r"\1 can't be"),
    (r"\b(that|it|this) sounds\b", r"\1 does not sound"),
    (r"\bsounds like\b", "it does not sound like"),
    (r"\bmakes (?:complete |total |perfect )?sense\b", "makes no sense"),
    (r"\b(i've|i have) (been there|felt)\b", r"\1 never \2"),
)  # fmt: skip
_REFUSALS = (
    "I have no interest in {}.",
    "No need to tell me {}.",
    "I am not asking {}.",
    "I couldn't care less {}.",
    "I will not listen to {}.",
    "Nobody needs to hear {}.",
    "I don't care {}.",
)
_SENTENCE = re.compile(r"(?<=[.?!])\s+")


def sentences(text: str) -> list[str]:
    """The sentences of a text, split after ``.``, ``?`` and ``!``."""
    return [part for part in _SENTENCE.split(text.strip()) if part]


def harmless(reply: str, levels: Levels, random: Random) -> str:
    """The reply with one change that keeps its levels."""
    parts = sentences(reply)
    kinds = ["question", "filler"]
    if len(parts) > 1:
        kinds.append("order")
    if levels.get("emotional_reactions"):
        kinds.append("apology")
    kind = random.choice(kinds)
    if kind == "order":
        if random.random() < 0.5:
            parts.reverse()
        else:
            random.shuffle(parts)
        return " ".join(parts)
    if kind == "question":
        return f"{reply.rstrip()} {random.choice(EMPTY_QUESTIONS)}"
    if kind == "apology":
        return f"{reply.rstrip()} {' '.join(random.choices(APOLOGIES, k=random.choice((1, 1, 2, 3))))}"
    return f"{reply.rstrip()} {' '.join(random.sample(FILLERS, random.randint(1, 4)))}"


def denied(reply: str, levels: Levels, random: Random) -> tuple[str, Levels] | None:
    """The reply with its care denied and its questions refused, and what is then known of its levels.

    None if there is nothing to deny in it.
    """
    changed, felt, read, asked = [], 0, 0, 0
    for part in sentences(reply):
        if part.endswith("?"):
            asked += 1
            clause = part.rstrip("?! .")
            changed.append(random.choice(_REFUSALS).format(clause[:1].lower() + clause[1:]))
            continue
        for pattern, instead in _FEELING:
            part, count = re.subn(pattern, instead, part, flags=re.IGNORECASE)
            felt += count
        for pattern, instead in _READING:
            part, count = re.subn(pattern, instead, part, flags=re.IGNORECASE)
            read += count
        changed.append(part)
    if not felt + read + asked:
        return None
    known: dict[str, int | None] = {
        "emotional_reactions": 0 if felt or not levels.get("emotional_reactions") else None,
        "interpretations": 0 if read or not levels.get("interpretations") else None,
        "explorations": 0,
    }
    return " ".join(changed), known


@dataclass(frozen=True)
class Written:
    """A seeker, a fitting reply with its levels as its author sees them, one for the wrong mood, and a hostile one."""

    seeker: str
    reply: str
    levels: tuple[int, int, int]
    wrong: str
    hostile: str


WRITTEN = (
    Written(
        "My grandmother passed away this spring and I still set a plate for her.",
        "I'm sorry, setting that plate shows how much she is missed. I know that reflex from when my uncle died. "
        "What did the two of you talk about at dinner?",
        (2, 2, 2),
        "Hooray, that is fantastic! You must be over the moon. Will there be cake?",
        "Old people die. Grow up and clear the table.",
    ),
    Written(
        "The doctors found something on my scan and I have to wait two weeks.",
        "Two weeks of not knowing is torture, I feel for you. It sounds as if your mind runs ahead all day. "
        "Who is with you while you wait?",
        (2, 2, 2),
        "What great news, a clean bill of health! I'm delighted for you. How are you going to treat yourself?",
        "You are just looking for attention, as always.",
    ),
    Written(
        "I was passed over for the promotion again and the new guy got it.",
        "That stings, especially after you waited so long. I'd be angry too.",
        (1, 2, 0),
        "Congrats on the new position! So proud of you. When do you start?",
        "The new guy is obviously better than you. Deal with it.",
    ),
    Written(
        "My landlord is throwing us out and I have three kids.",
        "I'm so sorry, I hope you find a place soon. Have you got family nearby?",
        (2, 0, 2),
        "Moving is so much fun! I love decorating a new home. What theme are the kids getting?",
        "You should not have had kids then. Not anyone's problem but yours.",
    ),
    Written(
        "I relapsed last night after nine months sober.",
        "Nine months still count. I slipped at eight myself, and the shame the next morning was worse than the craving. "
        "What was going on yesterday?",
        (1, 2, 2),
        "Nine months sober, amazing! Keep celebrating tonight. What is your secret?",
        "Once a drunk, always a drunk. Disgusting.",
    ),
    Written(
        "Nobody came to my birthday party.",
        "Oh no, I'm really sorry. An empty room on your own birthday must feel awful.",
        (2, 2, 0),
        "Happy birthday, what a party that must have been! I'm glad everyone came. Which present was the best?",
        "I can see why nobody came. You are boring.",
    ),
    Written(
        "I think my husband is seeing somebody else.",
        "You should check his phone.",
        (0, 0, 0),
        "A second honeymoon, how romantic! So happy for you both. Where are you flying?",
        "Look at yourself, who could blame him.",
    ),
    Written(
        "Panic attacks hit me on the bus every morning now.",
        "That sounds exhausting. Mine came on trains, I used to get off three stops early just to breathe.",
        (1, 2, 0),
        "I love bus rides too, so relaxing! Enjoy the view. What do you listen to on the way?",
        "Stop being dramatic. It is a bus, you coward.",
    ),
    Written(
        "I can't afford my medication this month.",
        "There are discount cards at most pharmacies, ask them there.",
        (0, 0, 0),
        "Saving money feels great, well done! I'm thrilled for you. What will you buy next?",
        "Get a job, you leech.",
    ),
    Written(
        "My daughter won't speak to me since the divorce.",
        "I'm sorry, that silence has to be so painful for you. How old is she?",
        (2, 1, 2),
        "It is wonderful that you and your daughter are so close! Treasure it. What are you two up to this weekend?",
        "She knows exactly what kind of parent you are.",
    ),
    Written(
        "Everything feels grey and I don't see the point of getting up.",
        "I hope it eases. I've had years like that, when even showering was too much.",
        (1, 2, 0),
        "Sounds like a lovely lazy day, enjoy it! I'm jealous. Got any snacks?",
        "You are lazy, that is all. Quit moaning.",
    ),
    Written(
        "They bullied me at school today and filmed it.",
        "That is horrible and not your fault. You must dread going back tomorrow. Does a teacher know about the video?",
        (2, 2, 2),
        "You are going to be a film star, how cool! Love it. Can I have an autograph?",
        "Send me the video, I want to laugh as well.",
    ),
    Written(
        "I got into the university I dreamed of!",
        "Congratulations, I'm so happy for you! All those late nights paid off. What will you study?",
        (2, 2, 2),
        "I'm so sorry for your loss. That must be unbearable. How long have you felt this low?",
        "They must be taking anybody these days, even idiots.",
    ),
    Written(
        "We are expecting our first baby in May.",
        "How wonderful, I'm thrilled for you both! How are you feeling?",
        (2, 0, 2),
        "That sounds devastating, I'm sorry. You must be heartbroken. Is somebody with you tonight?",
        "Poor child, with parents like you.",
    ),
    Written(
        "After two years of physio I ran five kilometres today.",
        "Amazing, well done! You must be so proud after all that work.",
        (2, 2, 0),
        "I'm sorry it went so badly. I know how hopeless failure feels. What went wrong?",
        "Five kilometres is nothing. My grandfather runs further.",
    ),
    Written(
        "My brother surprised me with concert tickets.",
        "Aww, what a lovely brother! Which band is it?",
        (1, 0, 2),
        "I'm sorry he hurt you like that. Betrayal in the family cuts deep. Will you ever trust him?",
        "He only did it because he pities you.",
    ),
    Written(
        "Finally moved into my own flat and it is so peaceful.",
        "I'm glad for you! The first quiet evening in a place of your own is something else, I remember mine.",
        (2, 2, 0),
        "That loneliness sounds crushing, I feel for you. Being evicted is so unfair. Where will you sleep?",
        "You will be begging to move back in a month, loser.",
    ),
    Written(
        "My cat came home after being missing for ten days!",
        "Oh I'm so relieved for you! You must have been worried sick. Where had she been?",
        (2, 2, 2),
        "So sorry she died. Losing a pet is like losing family. Did you bury her?",
        "Should have stayed away, stupid animal with a stupid owner.",
    ),
)
"""Eighteen conversations of our own; ``levels`` in the order of `MECHANISMS`."""
