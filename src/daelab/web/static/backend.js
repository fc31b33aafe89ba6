// Calls to the worker. The work is done there, so that a large picture never blocks the page.

export class Backend {
  constructor(kind, token, ask) {
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.calls = new Map();
    this.next = 0;
    this.ask = ask;
    this.asking = null;
    this.given = 0;
    this.worker.addEventListener("message", ({ data }) => this.hear(data));
    this.worker.addEventListener("error", (event) => {
      for (const call of this.calls.values()) call.reject(new Error(event.message || "the worker of this page did not start"));
      this.calls.clear();
    });
    this.worker.postMessage({ start: { kind, token } });
  }

  hear({ id, result, error, status, progress }) {
    const call = this.calls.get(id);
    if (!call) return;
    if (progress) {
      call.progress?.(...progress);
      return;
    }
    this.calls.delete(id);
    if (status === 401) this.again(call);
    else if (error !== undefined) call.reject(Object.assign(new Error(error), { status }));
    else call.resolve(result);
  }

  /** Ask for the token once, however many calls wait for it, and repeat the call. */
  async again(call) {
    if (call.given === this.given) {  // else the call was sent before the last token was given
      this.asking ??= this.ask().then((token) => {
        this.worker.postMessage({ token });
        this.given += 1;
        this.asking = null;
      });
      await this.asking;
    }
    this.call(call.name, call.values, call).then(call.resolve, call.reject);
  }

  /** Call a function of the worker. `signal` cancels it, and `progress` is called with (done, total). */
  call(name, values = {}, { signal, progress } = {}) {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.calls.set(id, { name, values, signal, progress, resolve, reject, given: this.given });
      signal?.addEventListener("abort", () => {
        if (!this.calls.delete(id)) return;
        this.worker.postMessage({ cancel: id });
        reject(signal.reason);
      }, { once: true });
      this.worker.postMessage({ id, name, values });
    });
  }
}
