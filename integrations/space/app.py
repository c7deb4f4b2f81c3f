"""A demo for Hugging Face Spaces and Colab: a photo and a voice, or a video, become a talking portrait."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import gradio as gr
from triportrait import DriveOptions, Portrait, TriPortraitError
from triportrait.background import Background
from triportrait.media.probe import probe
from triportrait.provenance.marks import Marks

LONGEST_S = float(os.environ.get("LONGEST_SECONDS", "60"))
EMOTIONS = ["neutral", "happy", "sad", "angry", "surprised", "auto"]
QUALITIES = ["draft", "standard", "high"]


def make(photo, voice, driving, emotion, head_motion, quality, background, agreed, progress=gr.Progress()) -> str:
    """The file of a video; what is wrong is said in one sentence."""
    if not agreed:
        raise gr.Error("Say that the person in the photo agreed.")
    if photo is None or (voice is None) == (driving is None):
        raise gr.Error("Give a photo, and either a voice or a video of somebody to imitate.")
    out = Path(tempfile.mkdtemp()) / "talking.mp4"
    try:
        if probe(voice or driving).seconds > LONGEST_S:
            raise gr.Error(f"Here a clip has {LONGEST_S:g} seconds at most; install TriPortrait for longer ones.")
        options = DriveOptions(emotion=emotion, head_motion=head_motion)
        portrait = Portrait.from_image(photo, quality=quality)
        performance = portrait.talk(voice, options) if voice else portrait.drive(driving, options)
        scene = Background(background) if background else None
        told = {"progress": lambda what, done, total: progress((done, total) if total else None, desc=what)}
        return str(performance.save(out, background=scene, marks=Marks(consent="said so on the page of the demo"), **told))
    except TriPortraitError as error:
        raise gr.Error(str(error)) from None


with gr.Blocks(title="TriPortrait", delete_cache=(3600, 86400)) as demo:
    gr.Markdown("# TriPortrait\nOne photo plus a voice, or a video, becomes a talking 3D portrait. Results are marked as generated.")
    with gr.Row():
        with gr.Column():
            photo = gr.Image(type="filepath", label="Photo")
            voice = gr.Audio(type="filepath", label="Voice", sources=["upload", "microphone"])
            driving = gr.Video(label="or a video to imitate", sources=["upload", "webcam"])
            agreed = gr.Checkbox(label="The person in the photo agreed to be animated")
        with gr.Column():
            emotion = gr.Dropdown(EMOTIONS, value="neutral", label="Emotion")
            head_motion = gr.Slider(0.0, 2.0, 1.0, step=0.1, label="Head motion")
            quality = gr.Radio(QUALITIES, value="draft", label="Quality")
            background = gr.Textbox(label="Background", placeholder="empty: the photo's own; or a colour such as #204060")
            button = gr.Button("Make video", variant="primary")
            video = gr.Video(label="Result", interactive=False)
    button.click(make, [photo, voice, driving, emotion, head_motion, quality, background, agreed], video, api_name="make")

if __name__ == "__main__":
    demo.queue(max_size=20).launch()
