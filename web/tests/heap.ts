import type { CDPSession, Page } from "@playwright/test";

/** Megabytes that are in use once everything that nobody needs was collected. */
export interface HeapUse {
  page: number;
  /** Of the worker that all tabs share. */
  worker: number;
}

interface Answer {
  id: number;
  result?: { usedSize?: number };
  error?: { message: string };
}

/** Reads the heaps of a page and its shared worker. */
export async function heapOf(page: Page): Promise<() => Promise<HeapUse>> {
  const ofPage = await page.context().newCDPSession(page);
  const ofBrowser = await page.context().browser()!.newBrowserCDPSession();
  const { targetInfos } = await ofBrowser.send("Target.getTargets");
  const worker = targetInfos.find(({ type }) => type === "shared_worker")!;
  const { sessionId } = await ofBrowser.send("Target.attachToTarget", {
    targetId: worker.targetId,
    flatten: false, // the library hands over no session of a worker
  });
  const ask = askerOf(ofBrowser, sessionId);
  return async () => {
    await ofPage.send("HeapProfiler.collectGarbage");
    const { usedSize } = await ofPage.send("Runtime.getHeapUsage");
    await ask("HeapProfiler.collectGarbage");
    const { result } = await ask("Runtime.getHeapUsage");
    return { page: usedSize / 1e6, worker: result!.usedSize! / 1e6 };
  };
}

/** Asks a target by messages through the session of the browser. */
function askerOf(browser: CDPSession, sessionId: string): (method: string) => Promise<Answer> {
  const waiting = new Map<number, (answer: Answer) => void>();
  let last = 0;
  browser.on("Target.receivedMessageFromTarget", ({ message }) => {
    const answer = JSON.parse(message) as Answer;
    waiting.get(answer.id)?.(answer);
    waiting.delete(answer.id);
  });
  return async (method) => {
    const id = ++last;
    const answered = new Promise<Answer>((resolve) => waiting.set(id, resolve));
    const message = JSON.stringify({ id, method });
    await browser.send("Target.sendMessageToTarget", { sessionId, message });
    return answered;
  };
}
