// Hands the microphone's samples on in blocks of 80 ms.
class Microphone extends AudioWorkletProcessor {
  constructor() { super(); this.block = new Float32Array(1920); this.filled = 0; }
  process([input]) {
    const samples = input[0];
    if (!samples) return true;
    for (const value of samples) {
      this.block[this.filled] = value;
      this.filled += 1;
      if (this.filled === this.block.length) { this.port.postMessage(this.block.slice()); this.filled = 0; }
    }
    return true;
  }
}
registerProcessor("microphone", Microphone);
