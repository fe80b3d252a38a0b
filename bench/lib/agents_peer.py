"""The peer `openai-agents`: one SandboxAgent with its default capabilities and UnixLocal sandbox.

agents_peer.py MAX_TURNS [SESSION.sqlite]     (OPENAI_BASE_URL and OPENAI_API_KEY from the environment)
"""
import asyncio
import sys

from agents import RunConfig, Runner, SQLiteSession, set_tracing_disabled
from agents.sandbox import SandboxAgent, SandboxRunConfig
from agents.sandbox.sandboxes.unix_local import UnixLocalSandboxClient


async def main():
    set_tracing_disabled(True)
    agent = SandboxAgent(name="bench", instructions="Work on the files.", model="gpt-5.5")
    session = SQLiteSession("bench", sys.argv[2]) if len(sys.argv) > 2 else None
    config = RunConfig(sandbox=SandboxRunConfig(client=UnixLocalSandboxClient()))
    await Runner.run(agent, "go", max_turns=int(sys.argv[1]), run_config=config, session=session)


asyncio.run(main())
