// The progress of the work: what is done, how much of it, how long it still takes, and a faster model.

import { $ } from "./dom.js";
import { duration } from "./words.js";

const PATIENCE = 8;

export class Progress {
  /** @param cancel A function that stops the work. @param use A function that chooses a model by its name. */
  constructor(cancel, use) {
    this.faster = null;
    this.doing = "";
    this.began = 0;
    $("cancel").addEventListener("click", cancel);
    $("faster").addEventListener("click", () => use(this.faster));
  }

  /** Say what is being done, without a count. */
  tell(doing) {
    $("act").hidden = false;
    $("working").hidden = false;
    $("run").disabled = true;
    $("faster").hidden = true;
    $("progress").removeAttribute("value");
    $("doing").textContent = doing;
  }

  /** Begin work that is counted in tiles. `faster` is the name of a faster model, or null. */
  start(doing, faster) {
    this.tell(doing);
    Object.assign(this, { doing, faster, began: performance.now() });
  }

  count(done, total) {
    Object.assign($("progress"), { max: total, value: done });
    if (total === 1) return;
    const left = (((performance.now() - this.began) / 1000) * (total - done)) / Math.max(1, done);
    $("doing").textContent = `${this.doing}: ${done} of ${total} tiles${done && done < total ? `, about ${duration(left)} left` : ""}`;
    if (this.faster && done && left > PATIENCE) {
      $("faster").textContent = `Faster: use ${this.faster}`;
      $("faster").hidden = false;
    }
  }

  end() {
    $("working").hidden = true;
    $("doing").textContent = "";
    $("run").disabled = $("viewer").hidden;
    $("act").hidden = $("viewer").hidden;
  }
}
