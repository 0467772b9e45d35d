# Completions of slurm-token for fish, written from its -h: make completions.
# Is the command line at this command of the program's?
function __slurm_token_at
    set -l at ''
    set -l value 0
    set -g __slurm_token_at_rest
    set -l words (commandline -opc)
    for i in (seq 2 (count $words))
        if test $value = 1
            set value 0
            continue
        end
        switch "$at:$words[$i]"
            case ':run'
                set at 'run'
            case ':keep'
                set at 'keep'
            case ':curl'
                set at 'curl'
                set __slurm_token_at_rest curl $words[(math $i + 1)..]
            case ':inspect'
                set at 'inspect'
            case ':verify'
                set at 'verify'
            case ':refresh'
                set at 'refresh'
            case ':whoami'
                set at 'whoami'
            case ':--lifespan' ':--for' ':--format' ':--socket' ':-M' ':--cluster'
                set value 1
            case 'run:--lifespan' 'run:--for' 'run:--socket' 'run:-M' 'run:--cluster'
                set value 1
            case 'run:--'
                set at command
                set __slurm_token_at_rest $words[(math $i + 1)..]
                break
            case 'run:-*'
            case 'run:*'
                set at command
                set __slurm_token_at_rest $words[$i..]
                break
            case 'keep:--file' 'keep:--format' 'keep:--exec' 'keep:--lifespan' 'keep:--for' 'keep:--socket' 'keep:-M' 'keep:--cluster'
                set value 1
            case 'curl:--url' 'curl:--lifespan' 'curl:--for' 'curl:--socket' 'curl:--cluster'
                set value 1
            case 'inspect:--expect-user' 'inspect:--format'
                set value 1
            case 'verify:--expect-user' 'verify:--format' 'verify:--socket' 'verify:-M' 'verify:--cluster'
                set value 1
            case 'refresh:--format' 'refresh:--socket' 'refresh:-M' 'refresh:--cluster'
                set value 1
            case 'whoami:--format' 'whoami:--socket' 'whoami:-M' 'whoami:--cluster'
                set value 1
        end
    end
    test "$at" = "$argv[1]"
end
complete -c slurm-token -f
complete -c slurm-token -n '__slurm_token_at ""' -l lifespan -x -a "max 10m 30m 1h 12h" -d 'how long the token lives'
complete -c slurm-token -n '__slurm_token_at ""' -l for -x -a '(__fish_complete_users)' -d 'a token for this user, where the policy lets you ask'
complete -c slurm-token -n '__slurm_token_at ""' -l format -x -a "env\t'SLURM_JWT=TOKEN (default)' export\t'export SLURM_JWT=TOKEN, for eval' raw\t'the token alone' json\t'an object: token, user, expires_at, kid, jti' header\t'the HTTP headers, for curl -H @-' curl\t'the same, for curl -K -'" -d 'how it is written'
complete -c slurm-token -n '__slurm_token_at ""' -l json -d 'the same as --format json'
complete -c slurm-token -n '__slurm_token_at ""' -l socket -r -F -d 'the daemon\'s socket'
complete -c slurm-token -n '__slurm_token_at ""' -s M -l cluster -x -a '(string replace -rf "^/run/slurm-tokend-(.*)/\$" "\$1" /run/slurm-tokend-*/)' -d 'the socket of the daemon for this cluster'
complete -c slurm-token -n '__slurm_token_at ""' -l wait -d 'while the daemon is away, busy, or says that you ask too often, ask...'
complete -c slurm-token -n '__slurm_token_at ""' -s h -l help -d 'print this'
complete -c slurm-token -n '__slurm_token_at ""' -s V -l version -d 'print the version'
complete -c slurm-token -n '__slurm_token_at ""' -a run -d 'run a command with a token in its environment'
complete -c slurm-token -n '__slurm_token_at ""' -a keep -d 'keep a file that always holds a valid token'
complete -c slurm-token -n '__slurm_token_at ""' -a curl -d 'call slurmrestd with a token that only curl and the server see'
complete -c slurm-token -n '__slurm_token_at ""' -a inspect -d 'say what is in a token, and what Slurm would say to it'
complete -c slurm-token -n '__slurm_token_at ""' -a verify -d 'ask the daemon whether a token is genuine and valid'
complete -c slurm-token -n '__slurm_token_at ""' -a refresh -d 'get a new token for one that has not expired'
complete -c slurm-token -n '__slurm_token_at ""' -a whoami -d 'say what the policy of this machine gives you'
complete -c slurm-token -n '__slurm_token_at ""; and not string match -q "lifespan=*" -- (commandline -ct)' -a lifespan=
complete -c slurm-token -n '__slurm_token_at ""; and string match -q "lifespan=*" -- (commandline -ct)' -a '(string replace -r "^" lifespan= -- max 10m 30m 1h 12h)'
complete -c slurm-token -n '__slurm_token_at ""; and not string match -q "username=*" -- (commandline -ct)' -a username=
complete -c slurm-token -n '__slurm_token_at ""; and string match -q "username=*" -- (commandline -ct)' -a '(string replace -r "^" username= -- (__fish_complete_users))'
complete -c slurm-token -n '__slurm_token_at "run"' -l lifespan -x -a "max 10m 30m 1h 12h" -d 'how long the token lives'
complete -c slurm-token -n '__slurm_token_at "run"' -l for -x -a '(__fish_complete_users)' -d 'a token for this user, where the policy lets you ask'
complete -c slurm-token -n '__slurm_token_at "run"' -l socket -r -F -d 'the daemon\'s socket'
complete -c slurm-token -n '__slurm_token_at "run"' -s M -l cluster -x -a '(string replace -rf "^/run/slurm-tokend-(.*)/\$" "\$1" /run/slurm-tokend-*/)' -d 'the socket of the daemon for this cluster'
complete -c slurm-token -n '__slurm_token_at "run"' -l wait -d 'while the daemon is away, busy, or says that you ask too often, ask...'
complete -c slurm-token -n '__slurm_token_at "run"' -s h -l help -d 'print this'
complete -c slurm-token -n '__slurm_token_at "run"' -a '(__fish_complete_command)'
complete -c slurm-token -n '__slurm_token_at command' -a '(complete -C (string join " " -- (string escape -- $__slurm_token_at_rest) (commandline -ct)))'
complete -c slurm-token -n '__slurm_token_at "keep"' -l file -r -F -d 'the file'
complete -c slurm-token -n '__slurm_token_at "keep"' -l format -x -a "env\t'SLURM_JWT=TOKEN (default)' export\t'export SLURM_JWT=TOKEN, for eval' raw\t'the token alone' json\t'an object: token, user, expires_at, kid, jti' header\t'the HTTP headers, for curl -H @-' curl\t'the same, for curl -K -'" -d 'how the token is written'
complete -c slurm-token -n '__slurm_token_at "keep"' -l exec -x -a '(__fish_complete_command)' -d 'run this by sh -c after each renewal, with SLURM_TOKEN_FILE and...'
complete -c slurm-token -n '__slurm_token_at "keep"' -l once -d 'write the file once, and end'
complete -c slurm-token -n '__slurm_token_at "keep"' -l lifespan -x -a "max 10m 30m 1h 12h" -d 'how long the token lives'
complete -c slurm-token -n '__slurm_token_at "keep"' -l for -x -a '(__fish_complete_users)' -d 'a token for this user, where the policy lets you ask'
complete -c slurm-token -n '__slurm_token_at "keep"' -l json -d 'the same as --format json'
complete -c slurm-token -n '__slurm_token_at "keep"' -l socket -r -F -d 'the daemon\'s socket'
complete -c slurm-token -n '__slurm_token_at "keep"' -s M -l cluster -x -a '(string replace -rf "^/run/slurm-tokend-(.*)/\$" "\$1" /run/slurm-tokend-*/)' -d 'the socket of the daemon for this cluster'
complete -c slurm-token -n '__slurm_token_at "keep"' -l wait -d 'while the daemon is away, busy, or says that you ask too often, ask...'
complete -c slurm-token -n '__slurm_token_at "keep"' -s h -l help -d 'print this'
complete -c slurm-token -n '__slurm_token_at "curl"' -l url -x -d 'where slurmrestd is, for a PATH'
complete -c slurm-token -n '__slurm_token_at "curl"' -l force-insecure -d 'send the token over the network in clear text, or with curl\'s -k to a...'
complete -c slurm-token -n '__slurm_token_at "curl"' -l lifespan -x -a "max 10m 30m 1h 12h" -d 'how long the token lives'
complete -c slurm-token -n '__slurm_token_at "curl"' -l for -x -a '(__fish_complete_users)' -d 'a token for this user, where the policy lets you ask'
complete -c slurm-token -n '__slurm_token_at "curl"' -l socket -r -F -d 'the daemon\'s socket'
complete -c slurm-token -n '__slurm_token_at "curl"' -l cluster -x -a '(string replace -rf "^/run/slurm-tokend-(.*)/\$" "\$1" /run/slurm-tokend-*/)' -d 'the socket of the daemon for this cluster'
complete -c slurm-token -n '__slurm_token_at "curl"' -l wait -d 'while the daemon is away, busy, or says that you ask too often, ask...'
complete -c slurm-token -n '__slurm_token_at "curl"' -s h -l help -d 'print this'
complete -c slurm-token -n '__slurm_token_at "curl"' -a '(complete -C (string join " " -- (string escape -- $__slurm_token_at_rest) (commandline -ct)))'
complete -c slurm-token -n '__slurm_token_at "inspect"' -l expect-user -x -a '(__fish_complete_users)' -d 'fail if Slurm would take its bearer for somebody else'
complete -c slurm-token -n '__slurm_token_at "inspect"' -l json -d 'for programs'
complete -c slurm-token -n '__slurm_token_at "inspect"' -l format -x -a "env\t'SLURM_JWT=TOKEN (default)' export\t'export SLURM_JWT=TOKEN, for eval' raw\t'the token alone' json\t'an object: token, user, expires_at, kid, jti' header\t'the HTTP headers, for curl -H @-' curl\t'the same, for curl -K -'" -d 'how it is written'
complete -c slurm-token -n '__slurm_token_at "inspect"' -s h -l help -d 'print this'
complete -c slurm-token -n '__slurm_token_at "verify"' -l expect-user -x -a '(__fish_complete_users)' -d 'fail if the token is somebody else\'s'
complete -c slurm-token -n '__slurm_token_at "verify"' -l json -d 'for programs'
complete -c slurm-token -n '__slurm_token_at "verify"' -l format -x -a "env\t'SLURM_JWT=TOKEN (default)' export\t'export SLURM_JWT=TOKEN, for eval' raw\t'the token alone' json\t'an object: token, user, expires_at, kid, jti' header\t'the HTTP headers, for curl -H @-' curl\t'the same, for curl -K -'" -d 'how it is written'
complete -c slurm-token -n '__slurm_token_at "verify"' -l socket -r -F -d 'the daemon\'s socket'
complete -c slurm-token -n '__slurm_token_at "verify"' -s M -l cluster -x -a '(string replace -rf "^/run/slurm-tokend-(.*)/\$" "\$1" /run/slurm-tokend-*/)' -d 'the socket of the daemon for this cluster'
complete -c slurm-token -n '__slurm_token_at "verify"' -l wait -d 'while the daemon is away, busy, or says that you ask too often, ask...'
complete -c slurm-token -n '__slurm_token_at "verify"' -s h -l help -d 'print this'
complete -c slurm-token -n '__slurm_token_at "refresh"' -l format -x -a "env\t'SLURM_JWT=TOKEN (default)' export\t'export SLURM_JWT=TOKEN, for eval' raw\t'the token alone' json\t'an object: token, user, expires_at, kid, jti' header\t'the HTTP headers, for curl -H @-' curl\t'the same, for curl -K -'" -d 'how it is written'
complete -c slurm-token -n '__slurm_token_at "refresh"' -l json -d 'the same as --format json'
complete -c slurm-token -n '__slurm_token_at "refresh"' -l socket -r -F -d 'the daemon\'s socket'
complete -c slurm-token -n '__slurm_token_at "refresh"' -s M -l cluster -x -a '(string replace -rf "^/run/slurm-tokend-(.*)/\$" "\$1" /run/slurm-tokend-*/)' -d 'the socket of the daemon for this cluster'
complete -c slurm-token -n '__slurm_token_at "refresh"' -l wait -d 'while the daemon is away, busy, or says that you ask too often, ask...'
complete -c slurm-token -n '__slurm_token_at "refresh"' -s h -l help -d 'print this'
complete -c slurm-token -n '__slurm_token_at "whoami"' -l format -x -a "env\t'SLURM_JWT=TOKEN (default)' export\t'export SLURM_JWT=TOKEN, for eval' raw\t'the token alone' json\t'an object: token, user, expires_at, kid, jti' header\t'the HTTP headers, for curl -H @-' curl\t'the same, for curl -K -'" -d 'how it is written'
complete -c slurm-token -n '__slurm_token_at "whoami"' -l json -d 'the same as --format json'
complete -c slurm-token -n '__slurm_token_at "whoami"' -l socket -r -F -d 'the daemon\'s socket'
complete -c slurm-token -n '__slurm_token_at "whoami"' -s M -l cluster -x -a '(string replace -rf "^/run/slurm-tokend-(.*)/\$" "\$1" /run/slurm-tokend-*/)' -d 'the socket of the daemon for this cluster'
complete -c slurm-token -n '__slurm_token_at "whoami"' -l wait -d 'while the daemon is away, busy, or says that you ask too often, ask...'
complete -c slurm-token -n '__slurm_token_at "whoami"' -s h -l help -d 'print this'
